"""Strings that are no UTF-8 are repaired where Arrow becomes Python, in whatever column they are nested."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_spark.workers.rows import repaired_text, rows_of, values_of

STRINGS = [b"a", None, b"\xff", "caf\u00e9".encode("latin-1"), "\u6771\u4eac".encode()]
REPAIRED = ["a", None, "\u00ff", "caf\u00e9", "\u6771\u4eac"]


def strings(*encoded: bytes | None, kind: pa.DataType | None = None) -> pa.Array:
    """As Delta hands them over: the type says string, the bytes say what they like."""
    binary = pa.array(encoded, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind or pa.string(), len(binary), binary.buffers())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_string_that_is_no_utf_8_is_repaired_and_its_neighbours_are_untouched(kind):
    batch = pa.RecordBatch.from_arrays([strings(*STRINGS, kind=kind), pa.array(range(5))], ["text", "n"])
    rows = rows_of(batch)
    assert rows == [{"text": text, "n": n} for n, text in enumerate(REPAIRED)]


def test_strings_within_lists_and_structs_are_repaired_too():
    column = strings(*STRINGS)
    structs = pa.StructArray.from_arrays([column, pa.array(range(5))], ["caption", "n"])
    lists = pa.ListArray.from_arrays([0, 2, 5], structs)
    batch = pa.RecordBatch.from_arrays([lists], ["captions"])
    entries = [{"caption": text, "n": n} for n, text in enumerate(REPAIRED)]
    assert rows_of(batch) == [{"captions": entries[:2]}, {"captions": entries[2:]}]
    assert values_of(column.dictionary_encode()) == REPAIRED


def test_where_a_guess_would_be_another_value_the_bytes_stay():
    batch = pa.RecordBatch.from_arrays([strings(*STRINGS)] * 2, ["url", "text"])
    found = [row["url"] for row in rows_of(batch, exact=("url",))]
    assert [url and url.encode(errors="surrogateescape") for url in found] == STRINGS
    assert [row["text"] for row in rows_of(batch, exact=("url",))] == REPAIRED


def test_cut_utf_8_stays_utf_8():
    assert repaired_text("\u6771\u4eac".encode()[:-1]) == "\u6771\ufffd"
    assert repaired_text(b"\x93so\x94 \x80") == "\u201cso\u201d \u20ac"
    assert repaired_text(b"a\x81") == "a\ufffd"


@given(st.binary())
def test_any_bytes_become_text_that_arrow_can_hold(encoded):
    text = repaired_text(encoded)
    assert text.encode().decode() == text
    assert pa.array([text]).to_pylist() == [text]
