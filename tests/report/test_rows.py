"""Rows come out as people and programs read them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import Row

from recap_spark.errors import InputError
from recap_spark.report.rows import RowFormat, write_rows

NAMES = ("a", "b")
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())


def written(rows, form):
    out = io.StringIO()
    write_rows(NAMES, rows, form=form, out=out)
    return out.getvalue()


@given(st.lists(st.tuples(VALUES, st.lists(VALUES))))
def test_json_is_one_object_a_row_whatever_the_values(rows):
    lines = written(rows, RowFormat.JSON).split("\n")
    assert [list(json.loads(line)) for line in lines if line] == [list(NAMES) for _ in rows]


@given(st.lists(st.tuples(VALUES, VALUES)))
def test_csv_keeps_every_row_and_column(rows):
    read = list(csv.reader(io.StringIO(written(rows, RowFormat.CSV), newline="")))
    assert [len(row) for row in read] == [2] * (len(rows) + 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\xff\x00", "2 bytes"),
        (float("nan"), None),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (Row(x=1, y=[b"abc"]), {"x": 1, "y": ["3 bytes"]}),
        ({1: "one"}, {"1": "one"}),
        ({b"ab": 1, b"cd": 2}, [["2 bytes", 1], ["2 bytes", 2]]),
        ({b"ab": 1, b"abc": 2}, [["2 bytes", 1], ["3 bytes", 2]]),
        ({float("inf"): 1, float("-inf"): 2}, [[None, 1], [None, 2]]),
        ({0.5: 1}, [[0.5, 1]]),
        (timedelta(days=1, seconds=3), "1 day, 0:00:03"),
        (time(12, 30), "12:30:00"),
        (Row("x", "x")(1, 2), [1, 2]),
    ],
)
def test_json_says_each_kind_of_value(value, shown):
    assert json.loads(written([(value, 0)], RowFormat.JSON)) == {"a": shown, "b": 0}


def test_json_loses_no_column_of_a_name_that_another_has():
    out = io.StringIO()
    with pytest.raises(InputError, match="want columns of different names for JSON, found a, a"):
        write_rows(("a", "a"), [(1, 2)], form=RowFormat.JSON, out=out)
    assert out.getvalue() == ""


def test_a_table_sends_no_strangers_commands_to_a_terminal():
    shown = written([("\x1b]0;mine\x07\x9b2J", "two\nlines")], RowFormat.TABLE)
    assert "\\x1b]0;mine\\x07\\x9b2J" in shown
    assert [character for character in shown if not character.isprintable() and character != "\n"] == []


def test_a_table_keeps_long_values_whole_and_marks_up_nothing():
    shown = written([("[red]" + "x" * 500, None)], RowFormat.TABLE)
    assert "[red]" + "x" * 500 in shown
    assert "null" in shown
