"""What every part of the fetch benchmark needs"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from fetching.sides import PROCESSES, Run, Web, run_ours
from reporting import Series

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules

Claim = tuple[str, float, float]


@dataclass(frozen=True)
class Bench:
    """The servers that are up, and the settings."""

    arguments: argparse.Namespace
    port: int
    hosts: list[str]
    sha256: tuple[str, ...]
    limits: FetchLimits
    decode: DecodeLimits
    rules: PictureRules  # conf/base.yml's: pictures stay as they came

    def web(self, kinds: tuple[str, ...]) -> Web:
        return Web(self.port, tuple(self.hosts[: len(kinds)]), kinds, self.sha256)

    def run(self, web: Web, *, rows: int, processes: int = PROCESSES, watch_memory: bool = False) -> Run:
        return run_ours(
            web,
            rows=rows,
            limits=self.limits,
            decode=self.decode,
            rules=self.rules,
            processes=processes,
            watch_memory=watch_memory,
        )


def note(series: Series, seconds: float) -> None:
    """Keep a time that was taken elsewhere, and print it."""
    series.seconds.append(seconds)
    print(f"  {series.name}: {seconds:.2f} s (load {os.getloadavg()[0]:.1f})", flush=True)
