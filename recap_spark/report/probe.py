"""a probe → what fetching the whole table would come to"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as Grid

from recap_spark.errors import InputError
from recap_spark.stages.fetch.probe import End, Probe
from recap_spark.statuses import FetchStatus

_Z = statistics.NormalDist().inv_cdf(0.975)  # two-sided 95 %

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """For every row of samples, those tried already included as they ended; 95 % intervals."""

    success: float
    success_between: Interval
    total_bytes: float
    total_bytes_between: Interval
    hours_left_between: Interval  # at this session's parallelism


def wilson(successes: int, rows: int) -> Interval:
    """The 95 % interval of a share (Wilson, 1927): sound for shares near 0 and 1, where p ± z·se is not."""
    if rows < 1 or not 0 <= successes <= rows:
        raise ValueError(f"want 0 <= successes <= rows and a row at least, found {successes} of {rows}")
    share = successes / rows
    spread = _Z * math.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    shrink = 1 + _Z**2 / rows
    centre = share + _Z**2 / (2 * rows)
    return max(0.0, (centre - spread) / shrink), min(1.0, (centre + spread) / shrink)


def estimate(probe: Probe) -> Estimate:
    """Carry a probe over to its table. Raises InputError where nothing is left to probe."""
    rows = len(probe.ends)
    if not rows:
        raise InputError(f"probe: want rows that were never tried, found none: images has all {probe.tried}")
    ok = sum(end.status == FetchStatus.OK for end in probe.ends)
    low, high = wilson(ok, rows)
    all_rows = probe.tried + probe.untried

    def of_all(share: float) -> float:
        return (probe.fetched + share * probe.untried) / all_rows

    mean, error = _mean_bytes([end.size for end in probe.ends])
    # Fetched pictures are taken to be as large as the sampled ones: measuring them would read every byte.
    of_fetched = probe.fetched * (mean * rows / ok) if ok else 0.0
    return Estimate(
        success=of_all(ok / rows),
        success_between=(of_all(low), of_all(high)),
        total_bytes=of_fetched + probe.untried * mean,
        total_bytes_between=(
            of_fetched + probe.untried * max(0.0, mean - error),
            of_fetched + probe.untried * (mean + error),
        ),
        hours_left_between=_hours(probe),
    )


def show_probe(probe: Probe, *, console: Console) -> None:
    """Print how the sample ended and what it says of the table."""
    found = estimate(probe)
    rows = len(probe.ends)
    ends = Grid(
        "status", "rows", "share", "95 %", title=f"A sample of {rows} of {probe.untried} untried rows"
    )
    for status, count in Counter(end.status for end in probe.ends).most_common():
        ends.add_row(status, str(count), f"{count / rows:.1%}", _shares(wilson(count, rows)))
    console.print(ends)
    whole = Grid("", "estimate", "95 %", title=f"All {probe.tried + probe.untried} rows")
    whole.add_row("success", f"{found.success:.1%}", _shares(found.success_between))
    compared = [end.sha256_matches for end in probe.ends if end.sha256_matches is not None]
    if compared:
        other = compared.count(False)
        whole.add_row(
            "other bytes than promised", f"{other / len(compared):.1%}", _shares(wilson(other, len(compared)))
        )
    low, high = (f"{size / 1e9:,.3f}" for size in found.total_bytes_between)
    whole.add_row("gigabytes", f"{found.total_bytes / 1e9:,.3f}", f"{low} to {high}")
    console.print(whole)
    least, most = found.hours_left_between
    console.print(
        f"Hours left: {least:,.2f} to {most:,.2f} with {probe.tasks} tasks at once, by the sample's middle "
        f"90 % and by all of its {probe.seconds:.1f} s, which end with the slowest urls."
    )


def _mean_bytes(sizes: list[int]) -> tuple[float, float]:
    """Mean over all urls, those without a picture too, and half of its 95 % interval."""
    deviation = statistics.stdev(sizes) if len(sizes) > 1 else 0.0
    return statistics.fmean(sizes), _Z * deviation / math.sqrt(len(sizes))


def _hours(probe: Probe) -> Interval:
    """By the sample's middle and by all of it: its end waits for deadlines, as a long run does only once."""
    slow = len(probe.ends) / probe.seconds
    fast = max(slow, _rate_in_the_middle(probe.ends))
    return probe.untried / fast / 3600, probe.untried / slow / 3600


def _rate_in_the_middle(ends: tuple[End, ...]) -> float:
    moments = sorted(end.fetched_at for end in ends)
    first, last = len(moments) // 20, len(moments) - 1 - len(moments) // 20
    seconds = (moments[last] - moments[first]).total_seconds()
    return (last - first) / seconds if seconds > 0 else 0.0


def _shares(between: Interval) -> str:
    low, high = between
    return f"{low:.1%} to {high:.1%}"
