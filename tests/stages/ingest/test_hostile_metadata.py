"""No byte of a metadata file stops ingest: each row is a sample or a reject, each file is read or refused."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from metadata_files import DATACOMP, damaged, retyped, row, run, uid, write
from pyspark.sql import functions as F

from recap_spark.lake.lake import Lake
from recap_spark.stages.hashes import known_sha256
from recap_spark.stages.ingest.values import as_utf8
from recap_spark.tables import REJECTS, SAMPLES
from recap_spark.workers.metadata import sha256
from recap_spark.workers.rows import repaired_text

pytestmark = pytest.mark.spark

BYTES = retyped(url=pa.binary(), text=pa.binary(), uid=pa.binary())


def as_bytes(name: str, **changed: bytes) -> dict:
    good = row(name)
    return good | {key: good[key].encode() for key in ("uid", "url", "text")} | changed


def unannotated(path: Path, *rows: dict) -> None:
    """The same bytes in columns that say they are text."""
    table = pa.Table.from_pylist(list(rows), schema=BYTES)
    columns = [
        pa.Array.from_buffers(pa.string(), len(column), column.combine_chunks().buffers())
        if field.type == pa.binary()
        else column
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    pq.write_table(pa.table(columns, names=table.schema.names), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("metadata")
    texts = [
        as_bytes("latin", text="Café à Paris".encode("latin-1")),
        as_bytes("windows", text="“quoted” – 5 €".encode("cp1252")),
        as_bytes("cut", text="Müller – ".encode()[:-2]),
        as_bytes("noise", text=b"a \x81\x8d b"),
    ]
    unannotated(folder / "text.parquet", *texts)
    write(
        folder / "binary.parquet",
        *(as_bytes(f"b{n}", text=one["text"]) for n, one in enumerate(texts)),
        schema=BYTES,
    )
    unannotated(
        folder / "urls.parquet",
        as_bytes("bad url", url=b"http://host.test/\xff.jpg"),
        as_bytes("bad uid", uid=b"\xff" * 32),
        as_bytes("good", text=b"fine"),
    )
    hashes = ["", "  ", None, "A" * 64, f" {'b' * 64} ", "d41d8cd98f00b204e9800998ecf8427e", "x" * 64]
    write(folder / "hashes.parquet", *(row(f"hash {n}", sha256=one) for n, one in enumerate(hashes)))
    write(folder / "[a]{b}*?\\c.parquet", row("special name"))
    (folder / "empty.parquet").touch()
    (folder / "no parquet.parquet").write_bytes(b"not a parquet file at all")
    damaged(folder / "damaged.parquet")
    write(
        folder / "lists.parquet",
        row("lists", text=["one", "two"]),
        schema=retyped(text=pa.list_(pa.string())),
    )
    numbers = [
        row("whole", original_width=640.0),
        row("half", original_width=1.5),
        row("nan", original_width=np.nan),
    ]
    write(folder / "numbers.parquet", *numbers, schema=retyped(original_width=pa.float64()))
    write(
        folder / "nan score.parquet",
        row("nan score", clip_l14_similarity_score=np.nan),
        schema=retyped(clip_l14_similarity_score=pa.float64()),
    )
    odd = pa.Table.from_pylist([row("odd columns")], schema=DATACOMP)
    odd = odd.append_column("a `tick`", pa.array(["x"])).append_column("_metadata", pa.array([1]))
    odd = odd.append_column("URL", pa.array(["http://other.test/"])).append_column("_c", pa.array([None]))
    pq.write_table(odd, folder / "odd columns.parquet")
    stamped = pd.DataFrame([row("stamped")]).assign(seen=pd.Timestamp("2024-01-01 00:00:00.123456789"))
    stamped.drop(columns="face_bboxes").to_parquet(folder / "stamped.parquet")
    times = pa.Table.from_pylist([row("times")], schema=DATACOMP)
    pq.write_table(times.append_column("at", pa.array([1], pa.time64("ns"))), folder / "times.parquet")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.parquet")).write_bytes(
        (folder / "hashes.parquet").read_bytes()
    )
    return folder


@pytest.fixture(scope="module")
def ingested(new_lake) -> Lake:
    return new_lake()


@pytest.fixture(scope="module")
def ended(folder, ingested, settings):
    counts = run(ingested, settings, folder)
    samples = {row["uid"]: row for row in ingested.read(SAMPLES).collect()}
    rejects = ingested.read(REJECTS).collect()
    return counts, samples, rejects


def sample(ended, name: str):
    return ended[1].get(uid(name))


def reasons(ended, file: str) -> list[str]:
    return sorted(row["reason"] for row in ended[2] if row["source_file"].endswith(f"/{file}"))


def test_every_row_of_a_file_that_can_be_read_is_a_sample_or_a_reject(ended):
    counts, samples, rejects = ended
    assert len(samples) == counts["added"]
    refused = Counter(row["reason"] for row in rejects)
    assert refused == {"not_utf8": 2, "wrong_type": 2, "unreadable_file": 4}
    assert {reason: counts[reason] for reason in refused} == refused


def test_a_file_that_cannot_be_read_is_refused_by_name_and_all_others_are_ingested(ended):
    for file in ("empty.parquet", "no%20parquet.parquet", "damaged.parquet"):
        found = reasons(ended, file) or reasons(ended, file.replace("%20", " "))
        assert found == ["unreadable_file"], file
    assert any(r"caf\xe9.parquet" in row["source_file"] for row in ended[2])
    assert sample(ended, "special name") is not None


def test_texts_in_another_encoding_are_repaired_and_counted(ended):
    said = {
        name: sample(ended, name)["org_caption"] for name in ("latin", "windows", "cut", "noise", "b0", "b1")
    }
    assert said["latin"] == said["b0"] == "Café à Paris"
    assert said["windows"] == said["b1"] == "“quoted” – 5 €"
    assert said["cut"] == "Müller \ufffd"
    assert said["noise"] == "a \ufffd\ufffd b"
    assert ended[0]["text_repaired"] == 8


def test_a_url_or_uid_that_is_no_utf_8_is_refused(ended):
    assert reasons(ended, "urls.parquet") == ["not_utf8", "not_utf8"]
    assert sample(ended, "good") is not None


def test_a_sha256_that_is_none_is_unknown_and_one_of_another_kind_is_counted(ended):
    found = [sample(ended, f"hash {n}")["sha256"] for n in range(7)]
    assert found == [None, None, None, "a" * 64, "b" * 64, None, None]
    assert ended[0]["sha256_malformed"] == 2


def test_values_become_no_other_values(ended):
    assert reasons(ended, "lists.parquet") == ["wrong_type"]
    assert reasons(ended, "numbers.parquet") == ["wrong_type"]
    assert sample(ended, "whole")["original_width"] == 640
    assert sample(ended, "nan")["original_width"] is None
    assert sample(ended, "nan score")["clip_l14_similarity_score"] is None


def test_columns_that_nobody_reads_do_not_matter(ended):
    for name in ("odd columns", "stamped", "times"):
        assert sample(ended, name)["url"] == f"https://host.test/{name}.jpg"


def test_a_file_that_is_mended_is_ingested_by_the_next_run(ended, folder, ingested, settings):
    write(folder / "damaged.parquet", row("mended"))
    counts = run(ingested, settings, folder)
    assert counts["added"] == 1
    left = {row["source_file"].rpartition("/")[2] for row in ingested.read(REJECTS).collect()}
    assert "damaged.parquet" not in left


columns = st.sampled_from([*DATACOMP.names, "URL", "Uid", "_metadata", "a`b", "json", "", "text.x"])


@st.composite
def tables(draw) -> pa.Table:
    """A table of a few rows whose columns have any names, types and values."""
    count = draw(st.integers(0, 3))
    names = draw(st.lists(columns, min_size=1, max_size=8, unique=True))
    arrays = []
    for _ in names:
        kind = draw(st.sampled_from([bool, int, float, str, bytes, list, dict]))
        some = {
            bool: st.booleans(),
            int: st.integers(-(2**63), 2**63 - 1),
            float: st.floats(),
            str: st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
            bytes: st.binary(max_size=8),
            list: st.lists(st.integers(0, 9), max_size=2),
            dict: st.fixed_dictionaries({"a": st.integers(0, 9)}),
        }[kind]
        arrays.append(pa.array(draw(st.lists(st.none() | some, min_size=count, max_size=count))))
    return pa.table(arrays, names=names)


def laid_over(good: list[dict], odd: pa.Table) -> pa.Table:
    """Good rows with some columns taken from another table."""
    table = pa.Table.from_pylist(good, schema=DATACOMP)
    for name in odd.schema.names:
        place = table.schema.get_field_index(name)
        column = odd[name]
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    return table


def test_files_of_any_columns_types_and_values_stop_nothing(lake, settings, tmp_path):
    rows: dict[str, int] = {}

    @examples(
        max_examples=24,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(table=tables(), whole=st.booleans())
    def write_one(table: pa.Table, whole: bool) -> None:
        if whole:  # a file of this layout but for the columns drawn
            table = laid_over([row(f"{len(rows)} {n}") for n in range(table.num_rows)], table)
        file = tmp_path / "metadata" / f"{len(rows)}.parquet"
        file.parent.mkdir(exist_ok=True)
        pq.write_table(table, file)
        rows[file.name] = table.num_rows

    write_one()
    counts = run(lake, settings, tmp_path / "metadata")
    rejects = lake.read(REJECTS).collect()
    of_files = {row["source_file"].rpartition("/")[2] for row in rejects if row["source_row"] is None}
    of_rows = sum(row["source_row"] is not None for row in rejects)
    readable = sum(count for file, count in rows.items() if file not in of_files)
    assert lake.read(SAMPLES).count() == counts["added"] > 0
    assert counts["added"] + of_rows == readable
    assert {row["reason"] for row in rejects if row["source_row"] is None} <= {
        "missing_columns",
        "wrong_type",
    }


@examples(max_examples=60, deadline=None, database=None)
@given(st.one_of(st.text(max_size=70), st.from_regex(r" {0,2}[0-9a-fA-F]{63,65} {0,2}", fullmatch=True)))
def test_a_known_sha256_is_64_hexadecimal_digits(text):
    found = sha256.known_sha256(text)
    assert found is None or (
        len(found) == 64 and int(found, 16) >= 0 and found == text.strip(sha256.BLANKS).lower()
    )


def test_spark_and_workers_mend_values_alike(spark):
    texts = [
        "Café".encode("latin-1"),
        b"\x81",
        "Café – ".encode()[:-2],
        b"plain",
        "“a”".encode("cp1252"),
        "é".encode(),
    ]
    hashes = ["", " " + "A" * 64, "b" * 63, "g" * 64, "c" * 65, None, "d" * 64, "e" * 64 + "\r\n"]
    frame = spark.createDataFrame([(one,) for one in texts], "raw binary")
    mended = frame.select(as_utf8(F.col("raw").cast("string")).alias("text")).collect()
    assert [row["text"] for row in mended] == [repaired_text(one) for one in texts]
    known = spark.createDataFrame([(one,) for one in hashes], "sha256 string").select(
        known_sha256(F.col("sha256"))
    )
    assert [row[0] for row in known.collect()] == [sha256.known_sha256(one) for one in hashes]
