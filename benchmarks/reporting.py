"""What every benchmark prints: a table of medians and spreads, and its claim as the last line"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Series:
    """Repeated timings of the same work."""

    name: str
    items: int
    unit: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def per_s(self) -> float:
        return self.items / self.median_s

    def measure(self, work: Callable[[], object]) -> None:
        """Time one repetition. What `work` raises ends the benchmark with exit code 1."""
        started = time.perf_counter()
        work()
        self.seconds.append(time.perf_counter() - started)
        print(f"  {self.name}: {self.seconds[-1]:.2f} s (load {os.getloadavg()[0]:.1f})", flush=True)


def print_machine() -> None:
    """How many cores there are, and how busy others keep them: a busy machine's figures say little."""
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start", flush=True)


def print_table(series: Sequence[Series]) -> None:
    """One line for each series."""
    print(f"\n{'':24}{'median s':>10}{'min s':>10}{'max s':>10}{'n':>4}{'rate':>20}")
    for one in series:
        rate = f"{one.per_s:,.1f} {one.unit}/s"
        spread = f"{min(one.seconds):>10.2f}{max(one.seconds):>10.2f}{len(one.seconds):>4}"
        print(f"{one.name:24}{one.median_s:>10.2f}{spread}{rate:>20}")


def print_claim(name: str, *, ratio: float, target: float) -> None:
    """The line that the README's table is checked against: always the last one."""
    print(f"{name} ratio={ratio:.2f} target={target:.2f}", flush=True)
