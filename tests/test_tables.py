"""Every table keeps its contract: names, types, closed sets, and no words or urls in Delta's log."""

import re

import pytest
from pyspark.sql import types as T

from recap_spark.errors import ContractError
from recap_spark.pipeline import STAGES
from recap_spark.statuses import CaptionStatus, FetchStatus, FinishReason, RejectReason
from recap_spark.tables import ALL, CAPTIONS, IMAGES, RATINGS, REJECTS, SCORES

# The strings whose least and greatest value the log may keep: keys, and words of closed sets.
KEPT_WORDS = {
    "samples": {"uid"},
    "rejects": {"reason"},
    "images": {"uid", "status", "format"},
    "captions": {"uid", "captioner", "status", "finish_reason"},
    "captioners": {"captioner"},
    "scores": {"uid", "captioner", "scorer", "status"},
    "ratings": {"uid", "captioner", "judge"},
}


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_the_log_keeps_no_column_of_texts_urls_or_bytes(table):
    kinds = {name: table.schema[name].dataType for name in table.indexed}
    assert {name for name, kind in kinds.items() if kind == T.StringType()} <= KEPT_WORDS.get(
        table.name, set()
    )
    assert not [name for name, kind in kinds.items() if isinstance(kind, T.BinaryType | T.ArrayType)]


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_keys_and_indexed_columns_are_columns_and_every_column_says_what_it_holds(table):
    assert {*table.key, *table.indexed} <= set(table.schema.names)
    assert all(field.metadata["comment"] for field in table.schema)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_a_loose_schema_differs_only_in_taking_nulls(table):
    assert all(field.nullable for field in table.loose)
    assert not all(field.nullable for field in table.schema)
    assert [(f.name, f.dataType, f.metadata) for f in table.loose] == [
        (f.name, f.dataType, f.metadata) for f in table.schema
    ]


@pytest.mark.parametrize(
    ("table", "check", "words"),
    [
        (REJECTS, "reason_is_known", RejectReason),
        (IMAGES, "status_is_known", FetchStatus),
        (CAPTIONS, "status_is_known", CaptionStatus),
        (CAPTIONS, "finish_reason_is_known", FinishReason),
        (SCORES, "status_is_known", CaptionStatus),
    ],
)
def test_a_check_lists_the_words_of_its_closed_set_and_no_others(table, check, words):
    assert sorted(re.findall(r"'([^']*)'", table.checks[check])) == sorted(words)


def test_a_table_names_the_stage_that_makes_it():
    writers = {table.name: stage.name for stage in STAGES for table in stage.writes}
    assert {table.name: table.made_by for table in ALL} == writers | {"ratings": "ingest"}


@pytest.mark.spark
def test_a_frame_that_breaks_the_contract_hears_of_every_difference(spark):
    frame = spark.sql("SELECT 'a' AS uid, 'b' AS captioner, 1.5D AS rating, 'why' AS reason, 1 AS extra")
    with pytest.raises(ContractError) as caught:
        RATINGS.conform(frame)
    assert str(caught.value) == (
        "ratings: judge: want string, found none; rating: want int, found double; "
        "extra: want no such column, found int"
    )


@pytest.mark.spark
def test_columns_in_another_order_are_put_into_the_tables_order(spark):
    frame = spark.sql("SELECT 5 AS rating, 'j' AS judge, 'c' AS captioner, 'r' AS reason, 'u' AS uid")
    assert RATINGS.conform(frame).columns == ["uid", "captioner", "judge", "rating", "reason"]
