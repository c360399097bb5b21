"""Where every sample goes: into the shards, or out of them for a reason that is counted"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import DataFrame, Row

from recap_spark.errors import AccountingError
from recap_spark.lake.lake import Lake
from recap_spark.stages.export.view_rows import View
from recap_spark.stages.units import unit_of
from recap_spark.statuses import LeftOut
from recap_spark.tables import SAMPLES
from recap_spark.workers.shards.export_layout import Fields
from recap_spark.workers.shards.shards import SOURCES

log = logging.getLogger(__name__)


def tally(lake: Lake, judged: DataFrame, view: View, *, units: int) -> tuple[dict[int, int], dict[str, int]]:
    """The rows of each unit that has any, and the samples that are none, by reason.

    Raises AccountingError where the two are not all samples.
    """
    counted = judged.groupBy(unit_of(units).alias("unit"), "left_out").count().collect()
    sizes = {row["unit"]: row["count"] for row in counted if row["left_out"] is None}
    left_out: Counter[str] = Counter()
    for row in counted:
        if row["left_out"] is not None:
            left_out[row["left_out"]] += row["count"]
    samples = lake.read_at(SAMPLES, view.versions[SAMPLES.name]).count()
    if sum(sizes.values()) + left_out.total() != samples:
        found = f"{sum(sizes.values())} to write and {left_out.total()} left out"
        raise AccountingError(f"export: want each of {samples} samples once, found {found}")
    return sizes, dict(left_out)


def account(
    written: Iterable[Row], sizes: Mapping[int, int], left_out: Mapping[str, int], fields: Fields
) -> dict[str, Any]:
    """What the manifest says of all samples: `rows` by the source of the first epoch's captions,
    `rows_by_epoch` likewise of each where there are several, and `left_out` by reason.

    Raises AccountingError where the files of some kind do not hold all rows.
    """
    by_kind: dict[str, Counter[str]] = {}
    for row in written:
        counts = by_kind.setdefault(row["format"], Counter())
        counts.update({end: row[end] for end in (*SOURCES, "undecodable")})
    to_write = sum(sizes.values())
    wrong = {kind: counts.total() for kind, counts in by_kind.items() if counts.total() != to_write}
    if wrong or (to_write and not by_kind):
        raise AccountingError(f"export: want {to_write} rows in each kind of file, found {wrong or 'none'}")
    first = next(iter(by_kind.values()), Counter[str]())
    reasons = Counter(left_out)
    if first["undecodable"]:
        reasons[str(LeftOut.NO_JPEG)] = first["undecodable"]
    _say(reasons, samples=to_write + sum(left_out.values()))
    ended: dict[str, Any] = {"rows": _by_source(first), "left_out": dict(reasons.most_common())}
    if fields.own_epochs:
        ended["rows_by_epoch"] = {
            str(epoch): _by_source(by_kind.get(f"captions/epoch-{epoch}", Counter()))
            for epoch in fields.own_epochs
        }
    return ended


def _by_source(counts: Mapping[str, int]) -> dict[str, int]:
    return {source: counts[source] for source in SOURCES}


def _say(reasons: Counter[str], *, samples: int) -> None:
    said = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    log.info("export: left out %d of %d samples%s", reasons.total(), samples, f": {said}" if said else "")
