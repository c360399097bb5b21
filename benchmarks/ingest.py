"""Ingest with all its checks, against Spark's plain copy of the same Parquet rows to Delta

python benchmarks/ingest.py [--rows 5000000] [--repeats 3] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datacomp_rows import write_metadata
from pyspark.sql import SparkSession
from reporting import Series, print_claim, print_machine, print_table
from rich.console import Console

from recap_spark.lake.lake import Lake
from recap_spark.machine.session import start
from recap_spark.progress import Progress
from recap_spark.settings.loading import load
from recap_spark.settings.schema import LakeSettings, Settings
from recap_spark.stages.ingest import ingest

TARGET = 0.60
_CONF = Path(__file__).parents[1] / "conf"
_FEWER = 5  # the growth is measured from a fifth of the rows to all of them
_SEED = 11


@dataclass(frozen=True)
class Bench:
    """One session, and a folder where every repetition gets a lake of its own."""

    spark: SparkSession
    settings: Settings
    folder: Path

    def copy(self, source: str, *, name: str) -> Callable[[], object]:
        """Spark's own way from Parquet to Delta, without a look at rows or the project's Parquet settings."""
        rows = self.spark.newSession().read.parquet
        return lambda: rows(source).write.format("delta").save(str(self.folder / name))

    def ingest(self, source: str, *, name: str) -> Callable[[], object]:
        """The stage, from an empty lake to samples and rejects."""
        changed = self.settings.ingest.model_copy(update={"source": source})
        settings = self.settings.model_copy(update={"ingest": changed})
        lake = Lake(self.spark, LakeSettings(root=str(self.folder), namespace=name))
        # The console goes to no terminal: progress is measured too, but not drawn between the figures.
        return lambda: ingest.run(lake, settings, Progress(Console(file=sys.stderr, force_terminal=False)))

    def forget(self, name: str) -> None:
        """Give a repetition's disk space back."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        shutil.rmtree(self.folder / f"{name}.db", ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the generated metadata is kept for the next time")
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="recap-spark-") as scratch:
        metadata = arguments.folder or Path(scratch, "metadata")
        fewer = arguments.rows // _FEWER
        write_metadata(metadata, rows=fewer, name=f"fewer-{fewer}", seed=_SEED)
        rest = arguments.rows - fewer
        write_metadata(metadata, rows=rest, name=f"rest-{rest}", seed=_SEED + 1)
        spark, settings = _start(Path(scratch))
        sources = {
            fewer: f"{metadata}/fewer-{fewer}-*.parquet",
            arguments.rows: f"{metadata}/{{fewer-{fewer},rest-{rest}}}-*.parquet",
        }
        try:
            _compare(Bench(spark, settings, Path(scratch)), sources, repeats=arguments.repeats)
        finally:
            spark.stop()


def _compare(bench: Bench, sources: dict[int, str], *, repeats: int) -> None:
    fewer, rows = sources
    copied = Series("copy, all rows", rows, "rows")
    ingested = Series("ingest, all rows", rows, "rows")
    partly = Series("ingest, a fifth of them", fewer, "rows")
    turns = ((copied, bench.copy), (ingested, bench.ingest), (partly, bench.ingest))
    # Unmeasured: the JVM compiles what it runs often, and whoever is first would pay for it.
    for side in (bench.copy, bench.ingest):
        side(sources[fewer], name="warm_up")()
        bench.forget("warm_up")
    for repeat in range(repeats):
        for place, (series, side) in enumerate(turns):
            name = f"run_{repeat}_{place}"
            series.measure(side(sources[series.items], name=name))
            bench.forget(name)
    print_table((copied, ingested, partly))
    growth = (ingested.median_s / partly.median_s) / (rows / fewer)
    print(f"\ngrowth of ingest from {fewer:,} to {rows:,} rows: time ratio / row ratio = {growth:.2f}")
    print_claim("ingest_growth", ratio=1 / growth, target=1.0)
    print_claim("ingest", ratio=copied.median_s / ingested.median_s, target=TARGET)


def _start(scratch: Path) -> tuple[SparkSession, Settings]:
    """The laptop's session, with its lake and its metastore in a folder of the benchmark's own."""
    settings = load(_CONF / "base.yml", _CONF / "laptop.yml")
    # Millions of rows want more than the laptop's miniature.
    conf = settings.session.conf | {"spark.driver.memory": "2g"}
    own = {"metastore": str(scratch / "metastore"), "log": str(scratch / "spark.log"), "conf": conf}
    spark = start(settings.session.model_copy(update=own), LakeSettings(root=str(scratch), namespace=None))
    return spark, settings


if __name__ == "__main__":
    main()
