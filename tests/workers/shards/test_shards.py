"""Shards are whole or not there, and the same rows make the same bytes."""

import io
import tarfile
from dataclasses import replace

import pyarrow as pa
import pytest
from PIL import Image

from recap_spark.settings.pictures import DecodeLimits
from recap_spark.workers.shards.shards import ShardFormat, write_shards


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, kind)
    return out.getvalue()


def row(number: int, *, shard: int = 0, kind: str = "JPEG", source: str = "original") -> dict[str, object]:
    uid = f"{number:032x}"
    texts = {"url": f"http://x/{number}", "org_caption": "alt", "re_caption": None, "sha256": "0" * 64}
    picture = {"bytes": encoded(kind), "format": kind.lower()}
    return {"uid": uid, "shard": shard, "caption": "alt", "source": source} | texts | picture


@pytest.fixture
def shards(tmp_path):
    formats = ("webdataset", "parquet")
    decode = DecodeLimits(largest_pixels=1_000, memory_bytes=256 << 20, cpu_s=20.0)
    return ShardFormat(folder=str(tmp_path), formats=formats, jpeg_quality=95, decode=decode)


def written(rows, shards):
    return [r for b in write_shards([pa.RecordBatch.from_pylist(rows)], shards=shards) for r in b.to_pylist()]


def test_every_shard_of_a_partition_is_written_in_every_format(tmp_path, shards):
    answers = written([row(1), row(2, source="fallback"), row(3, shard=4)], shards)
    assert {(a["name"], a["rows"], a["original"], a["fallback"]) for a in answers} == {
        ("webdataset/00000000.tar", 2, 1, 1),
        ("parquet/00000000.parquet", 2, 1, 1),
        ("webdataset/00000004.tar", 1, 1, 0),
        ("parquet/00000004.parquet", 1, 1, 0),
    }


def test_the_same_rows_make_the_same_bytes(tmp_path, shards):
    written([row(1), row(2)], shards)
    first = (tmp_path / "webdataset/00000000.tar").read_bytes()
    written([row(1), row(2)], shards)
    assert (tmp_path / "webdataset/00000000.tar").read_bytes() == first


def test_a_jpeg_goes_out_as_it_came_and_others_become_jpegs(tmp_path, shards):
    written([row(1), row(2, kind="PNG")], shards)
    with tarfile.open(tmp_path / "webdataset/00000000.tar") as tar:
        pictures = [tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")]
    assert pictures[0] == encoded("JPEG")
    assert Image.open(io.BytesIO(pictures[1])).format == "JPEG"


def test_a_picture_that_kills_its_decoder_is_counted_and_left_out(shards):
    slow = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(slow, "PNG", compress_level=1)
    deadly = row(2, kind="PNG") | {"bytes": slow.getvalue()}
    hasty = replace(shards, decode=replace(shards.decode, largest_pixels=100_000_000, cpu_s=0.3))
    answers = written([row(1), deadly, row(3, kind="PNG")], hasty)
    assert {(a["rows"], a["undecodable"]) for a in answers} == {(2, 1)}


def test_a_writer_that_dies_in_the_middle_leaves_no_shard_under_its_name(tmp_path, shards):
    def rows_of_a_dying_reader():
        yield pa.RecordBatch.from_pylist([row(1), row(2)])
        raise OSError("the reader is gone")

    with pytest.raises(OSError, match="the reader is gone"):
        list(write_shards(rows_of_a_dying_reader(), shards=shards))
    assert not list(tmp_path.glob("*/*.tar"))
    assert not list(tmp_path.glob("*/*.parquet"))


def test_a_picture_that_does_not_decode_is_counted_and_left_out(tmp_path, shards):
    answers = written([row(1), row(2) | {"bytes": b"broken", "format": "png"}], shards)
    assert {(a["rows"], a["undecodable"]) for a in answers} == {(1, 1)}
