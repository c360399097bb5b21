"""The lake writes once, refuses what breaks a contract, and keeps no one's words in its log."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import types as T

from recap_spark.errors import ContractError, InputError
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.settings.schema import LakeSettings
from recap_spark.tables import CAPTIONERS, CAPTIONS, IMAGES, RATINGS, REJECTS, SCORES

pytestmark = pytest.mark.spark

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


def captions(lake, *texts, uid=A, status="ok"):
    rows = [(uid, name, status, "stop", 3, text) for name, text in texts]
    return lake.spark.createDataFrame(rows, CAPTIONS.schema)


def texts(lake):
    return sorted(row["caption"] for row in lake.read(CAPTIONS).collect())


def test_a_transaction_adds_its_rows_once_and_a_later_version_adds_more(lake: Lake):
    lake.create(CAPTIONS)
    first, second = Transaction("caption/1", 7), Transaction("caption/1", 8)
    assert lake.append(CAPTIONS, captions(lake, ("x", "one"), ("y", "two")), transaction=first) == 2

    assert lake.append(CAPTIONS, captions(lake, ("x", "one"), ("y", "two")), transaction=first) is None
    assert lake.version(CAPTIONS) == 1
    assert texts(lake) == ["one", "two"]

    lake.append(CAPTIONS, captions(lake, ("z", "three")), transaction=second)
    lake.append(CAPTIONS, captions(lake, ("z", "four"), uid=B), transaction=Transaction("caption/2", 1))
    assert lake.version(CAPTIONS) == 3
    assert texts(lake) == ["four", "one", "three", "two"]


def test_a_table_as_of_now_stays_as_it_was_when_others_write(lake: Lake):
    lake.create(CAPTIONS)
    made, nothing = lake.as_of_now(CAPTIONS)
    lake.append(CAPTIONS, captions(lake, ("x", "one")), transaction=Transaction("t", 1))
    written, one = lake.as_of_now(CAPTIONS)
    lake.append(CAPTIONS, captions(lake, ("y", "two")), transaction=Transaction("t", 2))
    assert (made, nothing.count(), written, one.count()) == (0, 0, 1, 1)
    assert nothing.schema == one.schema


def test_who_claimed_last_commits_and_who_claimed_before_adds_nothing(lake: Lake):
    lake.create(CAPTIONS)
    first = lake.claim(CAPTIONS, "caption/1")
    second = lake.claim(CAPTIONS, "caption/1")
    other = lake.claim(CAPTIONS, "caption/2")
    assert lake.append(CAPTIONS, captions(lake, ("x", "late")), transaction=first) is None
    assert lake.append(CAPTIONS, captions(lake, ("x", "one")), transaction=second) == 1
    assert lake.append(CAPTIONS, captions(lake, ("y", "two")), transaction=other) == 1
    assert texts(lake) == ["one", "two"]


def test_claims_and_compaction_make_no_other_rows(lake: Lake):
    lake.create(CAPTIONS)
    lake.append(CAPTIONS, captions(lake, ("x", "one")), transaction=Transaction("t", 1))
    before = lake.rows_version(CAPTIONS)
    lake.claim(CAPTIONS, "caption/1")
    lake.append(CAPTIONS, captions(lake, ("y", "two")), transaction=Transaction("t", 2))
    after = lake.rows_version(CAPTIONS)
    lake.compact(CAPTIONS)
    assert lake.rows_version(CAPTIONS) == after > before
    assert lake.version(CAPTIONS) > after


def test_the_table_itself_refuses_what_its_contract_forbids_and_its_log_keeps_no_words(lake: Lake):
    lake.create(CAPTIONS, SCORES)
    lake.append(CAPTIONS, captions(lake, ("x", "canary in a cage")), transaction=Transaction("t", 1))
    for wrong, broken in (
        (captions(lake, ("x", "text"), status="done"), "status_is_known"),
        (captions(lake, ("x", "text"), uid=A.upper()), "uid_is_md5_like"),
        (captions(lake, ("x", "text"), uid=A + "\n"), "uid_is_md5_like"),
    ):
        with pytest.raises(Py4JJavaError, match=broken):
            lake.append(CAPTIONS, wrong, transaction=Transaction("t", 2))
    null = lake.spark.createDataFrame([(A, None, "s", "ok", 0.1, None)], SCORES.loose)
    with pytest.raises(Py4JJavaError, match="NOT NULL constraint violated for column: captioner"):
        lake.append(SCORES, null, transaction=Transaction("t", 1))
    assert (texts(lake), lake.version(SCORES)) == (["canary in a cage"], 0)

    log = Path(lake.settings.root, "captions", "_delta_log")
    words = b"".join(file.read_bytes() for file in [*log.glob("*.json"), *log.glob("*.crc")])
    assert A.encode() in words  # the uid's minimum: statistics there are
    assert b"canary" not in words
    (file,) = lake.read(CAPTIONS).inputFiles()
    footer = pq.read_metadata(file.removeprefix("file://"))
    chunks = map(footer.row_group(0).column, range(footer.num_columns))
    with_least = {
        chunk.path_in_schema for chunk in chunks if chunk.statistics and chunk.statistics.has_min_max
    }
    assert "uid" in with_least  # files clustered by uid are passed over by it
    assert "caption" not in with_least


def test_a_table_made_by_an_earlier_version_says_how_to_give_it_its_new_columns(lake: Lake):
    lake.create(replace(RATINGS, schema=T.StructType(RATINGS.schema.fields[:-1])))
    with pytest.raises(
        ContractError, match=r"run `ALTER TABLE \S+ ADD COLUMNS \(reason string\)` first"
    ) as error:
        lake.create(RATINGS)
    lake.spark.sql(str(error.value).partition("run `")[2].rpartition("` first")[0])
    lake.create(RATINGS)


def test_merging_the_same_rows_twice_changes_nothing_and_null_matches_null(lake: Lake):
    lake.create(REJECTS)
    rows = [(None, "unreadable_file", "f", "short"), (0, "null_uid", "f", "{}"), (0, "null_uid", "g", "{}")]
    refused = lake.spark.createDataFrame(rows, REJECTS.schema)
    lake.upsert(REJECTS, refused)
    lake.upsert(REJECTS, refused)
    changed = [(None, "missing_columns", "f", "other")]
    lake.upsert(REJECTS, lake.spark.createDataFrame(changed, REJECTS.schema))
    assert sorted(map(tuple, lake.read(REJECTS).collect()), key=str) == sorted([*changed, *rows[1:]], key=str)


def test_deleting_takes_the_rows_of_the_keys_and_no_others(lake: Lake):
    lake.create(RATINGS)
    rows = [(A, "x", "j", 5, None), (A, "y", "j", 4, None), (B, "x", "j", 3, None), (C, "x", "j", 2, None)]
    frame = lake.spark.createDataFrame(rows, RATINGS.schema)
    lake.append(RATINGS, frame, transaction=Transaction("t", 1))
    lake.delete(RATINGS, lake.spark.createDataFrame([(A,), (A,), (None,)], "uid string"))
    lake.delete(RATINGS, lake.spark.createDataFrame([(B, "x"), (C, "y")], "uid string, captioner string"))
    assert [tuple(row) for row in lake.read(RATINGS).collect()] == [(C, "x", "j", 2, None)]


def test_reading_a_table_that_no_stage_has_made_says_which_stage_to_run(lake: Lake):
    with pytest.raises(InputError, match=r"images`, found none: run `recap-spark fetch` first"):
        lake.read(IMAGES)


def test_a_lake_in_a_catalog_is_there_for_the_next_session(spark, tmp_path):
    settings = LakeSettings(root=str(tmp_path), namespace="recap_kept")
    lake, later = Lake(spark, settings), Lake(spark.newSession(), settings)
    assert not lake.holds(CAPTIONERS)
    lake.create(CAPTIONERS)
    held = {"captioner": "tiny-1", "fingerprint": "f" * 64, "model": "tiny", "prompt": "Describe."}
    row = tuple(held.get(name) for name in CAPTIONERS.schema.names)
    frame = spark.createDataFrame([row], CAPTIONERS.schema)
    lake.upsert(CAPTIONERS, frame)
    assert lake.append(CAPTIONERS, frame, transaction=Transaction("t", 1)) == 1
    assert lake.append(CAPTIONERS, frame, transaction=Transaction("t", 1)) is None

    later.create(CAPTIONERS)  # makes nothing anew
    assert [tuple(kept) for kept in later.read(CAPTIONERS).collect()] == [row, row]
    assert later.version(CAPTIONERS) == 2
    assert later.identity(CAPTIONERS) == lake.identity(CAPTIONERS)
    plain = later.spark.sql("SELECT DISTINCT model FROM recap_kept.captioners").collect()
    assert [kept["model"] for kept in plain] == ["tiny"]
    spark.sql("DROP SCHEMA recap_kept CASCADE")
    assert not later.holds(CAPTIONERS)


def test_a_view_and_a_function_are_kept_in_a_catalog_and_a_view_ends_with_its_session_elsewhere(spark, lake):
    catalogued = Lake(spark, LakeSettings(root=lake.settings.root, namespace="recap_defined"))
    catalogued.create()
    said = {"number": "it's one, 'so' to speak"}
    catalogued.define_view("one", "SELECT 1 AS number", columns=said, comment="a view's own words")
    catalogued.define_function("next", "(n INT) RETURNS TABLE (number INT) RETURN SELECT n + 1")
    lake.define_view("passing", "SELECT 2 AS number", columns={"number": "two"}, comment="ends soon")
    later = spark.newSession()
    assert later.sql("SELECT number FROM recap_defined.one").first().number == 1
    described = later.sql("DESCRIBE EXTENDED recap_defined.one").collect()
    assert tuple(described[0]) == ("number", "int", "it's one, 'so' to speak")
    assert ("Comment", "a view's own words", "") in [tuple(row) for row in described]
    later.sql("USE recap_defined")  # Spark 4.0 knows no table function by its schema's name
    assert later.sql("SELECT number FROM next(1)").first().number == 2
    assert spark.read.table("passing").first().number == 2
    assert not later.catalog.tableExists("passing")
