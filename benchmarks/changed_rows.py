"""python benchmarks/changed_rows.py: what changing few rows of `images` costs without deletion vectors

Retry, placeholders and takedowns change some rows of files that hold many. With deletion vectors Delta marks
these rows and adds new ones; without them, as delta-rs, DuckDB and polars read, it rewrites every file that
holds one. Both are timed on the same rows, in turns: a unit's files, of which a hundredth of the rows change.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from reporting import Series, print_claim, print_machine, print_table

from recap_spark.lake.lake import Lake, Transaction
from recap_spark.lake.upkeep import DELETION_VECTORS
from recap_spark.machine.session import start
from recap_spark.settings.loading import load
from recap_spark.settings.schema import LakeSettings
from recap_spark.tables import IMAGES

_CONF = Path(__file__).parents[1] / "conf"
_FILES = 8
_SHARE = 100  # one row of so many changes
_CHANGED = {"status": "'gone'", "bytes": "NULL"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=30_000, help="of each picture")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="recap-spark-") as scratch:
        spark = _start(Path(scratch))
        changed = asked.rows // _SHARE
        without = Series("without", changed, "changed rows")
        marked = Series("with deletion vectors", changed, "changed rows")
        for repeat in range(asked.repeats):
            for series, vectors in ((without, "false"), (marked, "true")):
                root = f"{scratch}/{repeat}-{vectors}"
                series.measure(_change(_filled(spark, root, asked, vectors=vectors)))
        print_table((without, marked))
        print_claim("changed_rows", ratio=marked.median_s / without.median_s, target=0.5)
        spark.stop()


def _start(scratch: Path) -> SparkSession:
    settings = load(_CONF / "base.yml", _CONF / "laptop.yml", changes=[f"lake.root={scratch}"])
    session = settings.session
    # Hundreds of megabytes of pictures want more than the laptop's miniature.
    own = {"metastore": None, "conf": session.conf | {"spark.driver.memory": "3g"}}
    return start(session.model_copy(update=own), settings.lake)


def _filled(spark: SparkSession, root: str, asked: argparse.Namespace, *, vectors: str) -> Lake:
    lake = Lake(spark, LakeSettings(root=root, namespace=None))
    lake.create(IMAGES)
    name = lake.name(IMAGES.name)
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('{DELETION_VECTORS}' = '{vectors}')")
    picture = F.unhex(F.repeat(F.sha2(F.col("uid"), 256), asked.bytes // 32))
    uid = F.md5(F.col("id").cast("string"))
    rows = spark.range(asked.rows, numPartitions=_FILES).withColumn("uid", uid)
    values: dict[str, Column] = {"status": F.lit("ok"), "attempts": F.lit(1), "bytes": picture}
    values |= {"fetched_at": F.current_timestamp()}
    known = rows.withColumns(values)
    nulls = {field.name: F.lit(None).cast(field.dataType) for field in IMAGES.schema}
    whole = known.withColumns({name: null for name, null in nulls.items() if name not in known.columns})
    lake.append(IMAGES, whole.drop("id"), transaction=Transaction("fill", 1))
    return lake


def _change(lake: Lake) -> Callable[[], object]:
    """As retry changes rows: spread over all files."""
    some = lake.read(IMAGES).select("uid").where(F.pmod(F.xxhash64("uid"), F.lit(_SHARE)) == 0)
    rows = some.localCheckpoint()
    return lambda: lake.revise(IMAGES, rows, still="kept.status = 'ok'", values=_CHANGED)


if __name__ == "__main__":
    main()
