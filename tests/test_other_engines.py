"""The tables as engines other than Spark read them."""

from dataclasses import replace

import duckdb
import polars as pl
import pytest
from delta import DeltaTable as SparkTable
from deltalake import DeltaTable
from repository import ROOT

from recap_spark.lake.lake import Lake
from recap_spark.stages.importing.imports_table import IMPORTS
from recap_spark.statuses import RejectReason
from recap_spark.tables import ALL, IMAGES, REJECTS, Table

pytestmark = pytest.mark.spark

# What each engine's readers know of Delta's features, by its own sources (delta-rs: DuckDB and polars
# read by it here; Trino's ProtocolEntry). A table of reader version 1 asks for none.
READ_BY = {
    "delta-rs": {"timestampNtz"},
    "Trino": {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
        "variantType",
        "variantType-preview",
    },
}
OLDER_VERSION = {1: set(), 2: {"columnMapping"}}  # of readers, before features had names

UIDS = [f"{number:032x}" for number in range(3)]


@pytest.fixture(scope="module")
def written(new_lake, fill) -> Lake:
    """Every table, one of whose images was changed after it was written."""
    lake: Lake = new_lake()
    lake.create(*ALL, IMPORTS)
    fill(lake, samples=[{"uid": uid} for uid in UIDS], images=[{"uid": uid, "bytes": b"x"} for uid in UIDS])
    changed = lake.spark.createDataFrame([(UIDS[1],)], "uid string")
    assert lake.revise(IMAGES, changed, still="kept.status = 'ok'", values={"status": "'placeholder'"}) == 1
    return lake


def path(lake: Lake, table: Table) -> str:
    return f"{lake.settings.root}/{table.name}"


@pytest.mark.parametrize("table", [*ALL, IMPORTS], ids=lambda table: table.name)
def test_delta_rs_duckdb_and_polars_read_what_spark_reads(written, table):
    wanted = written.read(table).toPandas()
    other = DeltaTable(path(written, table))
    found = other.to_pyarrow_table()
    assert found.column_names == table.schema.names
    assert found.num_rows == len(wanted)
    connection = duckdb.connect()
    connection.register("rows", other.to_pyarrow_dataset())
    assert connection.sql("SELECT count(*) FROM rows").fetchall() == [(len(wanted),)]
    frame = pl.read_delta(path(written, table))
    assert frame.height == len(wanted)
    for column in ("uid", "status"):
        if column in table.schema.names:
            assert sorted(frame[column]) == sorted(found[column].to_pylist()) == sorted(wanted[column])


@pytest.mark.parametrize("table", [*ALL, IMPORTS], ids=lambda table: table.name)
def test_a_table_asks_its_readers_for_no_feature_that_an_engine_lacks(written, table):
    protocol = DeltaTable(path(written, table)).protocol()
    asked = OLDER_VERSION.get(protocol.min_reader_version) or set(protocol.reader_features or ())
    lacking = {engine: asked - known for engine, known in READ_BY.items() if asked - known}
    assert lacking == {}


def test_no_table_is_left_out_of_what_other_engines_are_shown():
    made = [line for file in (ROOT / "recap_spark").rglob("*.py") for line in file.read_text().split("\n")]
    assert len([line for line in made if line.endswith(" = Table(")]) == len([*ALL, IMPORTS])


def test_a_table_made_with_deletion_vectors_is_rewritten_without_them(lake, fill):
    lake.create(IMAGES)
    lake.spark.sql(
        f"ALTER TABLE {lake.name('images')} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"
    )
    fill(lake, images=[{"uid": uid, "bytes": b"x"} for uid in UIDS])
    SparkTable.forPath(lake.spark, path(lake, IMAGES)).delete(f"uid = '{UIDS[0]}'")
    assert "deletionVectors" in DeltaTable(path(lake, IMAGES)).protocol().reader_features
    lake.compact(IMAGES)
    assert sorted(DeltaTable(path(lake, IMAGES)).to_pyarrow_table()["uid"].to_pylist()) == UIDS[1:]


def test_a_closed_set_that_has_grown_lets_an_older_table_take_the_new_words(lake):
    older = "reason IN ('null_uid')"
    lake.create(replace(REJECTS, checks={"reason_is_known": older}))
    lake.create(REJECTS)
    row = (None, str(RejectReason.NOT_UTF8), "file", "raw")
    lake.upsert(REJECTS, lake.spark.createDataFrame([row], REJECTS.schema))
    assert lake.read(REJECTS).count() == 1
