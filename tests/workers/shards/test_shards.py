"""Shards are whole or not there, and the same rows make the same bytes."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from recap_spark.settings.pictures import DecodeLimits
from recap_spark.workers.shards.export_layout import NO_COSINE, Fields, layout_of
from recap_spark.workers.shards.shard_listing import list_shards
from recap_spark.workers.shards.shards import ShardFormat, write_shards


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, kind)
    return out.getvalue()


def row(number: int, *, shard: int = 0, kind: str = "JPEG", source: str = "original") -> dict[str, object]:
    uid = f"{number:032x}"
    texts = {"url": f"http://x/{number}", "org_caption": "alt", "re_caption": None, "sha256": "0" * 64}
    picture = {"bytes": encoded(kind), "format": kind.lower()}
    drawn = {"caption": "alt", "source": source, "captioner": None}
    return {"uid": uid, "shard": shard} | drawn | texts | picture


@pytest.fixture
def shards(tmp_path):
    formats = ("webdataset", "parquet")
    decode = DecodeLimits(largest_pixels=1_000, memory_bytes=256 << 20, cpu_s=20.0)
    fields = Fields(epochs=(0,), scored=False)
    return ShardFormat(folder=str(tmp_path), formats=formats, jpeg_quality=95, decode=decode, fields=fields)


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


def in_json(tar: Path) -> list[dict[str, object]]:
    with tarfile.open(tar) as archive:
        return [json.loads(archive.extractfile(one).read()) for one in archive if one.name.endswith(".json")]


def types_as_hugging_face_takes_them(rows: list[dict[str, object]]) -> pa.DataType:
    """What `datasets` types a webdataset's json by: the first five examples of the first tar, each a table of
    its own, joined by Arrow's rules.
    """
    tables = [pa.table({"json": pa.array([row])}) for row in rows[:5]]
    return pa.concat_tables(tables, promote_options="default").schema.field("json").type


def test_the_first_five_rows_tell_the_types_of_all_whatever_they_lack(tmp_path, shards):
    bare = [row(number) for number in range(5)]
    words = {"re_caption": "a cat", "captioner": "us-1"}
    full = [row(5) | words | {"org_clip_score": 0.25, "re_clip_score": 1.0}]
    half = [row(6) | words | {"org_caption": None, "org_clip_score": None, "re_clip_score": -0.125}]
    lacking = {"org_clip_score": None, "re_clip_score": None}
    everything = [lacking | each for each in bare + full + half]
    written(everything, replace(shards, fields=Fields(epochs=(0,), scored=True)))
    described = in_json(tmp_path / "webdataset/00000000.tar")
    assert len({tuple(each) for each in described}) == 1
    kind = types_as_hugging_face_takes_them(described)
    assert not [field for field in kind if pa.types.is_null(field.type)]
    assert pa.array(described, kind).to_pylist() == described
    assert {name: described[0][name] for name in (*words, *lacking)} == {
        "re_caption": "",
        "captioner": "",
        "org_clip_score": NO_COSINE,
        "re_clip_score": NO_COSINE,
    }
    assert [described[6][name] for name in ("org_caption", *lacking)] == ["", NO_COSINE, -0.125]


def test_parquet_says_null_where_json_says_that_there_is_none(tmp_path, shards):
    scores = {"org_clip_score": None, "re_clip_score": 0.5}
    written([row(1) | scores], replace(shards, fields=Fields(epochs=(0,), scored=True)))
    (found,) = pq.read_table(tmp_path / "parquet/00000000.parquet").to_pylist()
    names = ("re_caption", "captioner", "source", *scores)
    assert [found[name] for name in names] == [None, None, "original", None, 0.5]


def test_without_scores_no_row_has_a_field_for_them(tmp_path, shards):
    written([row(1)], shards)
    (described,) = in_json(tmp_path / "webdataset/00000000.tar")
    assert described == {
        **{name: row(1)[name] for name in ("uid", "url", "org_caption", "sha256", "source")},
        "re_caption": "",
        "captioner": "",
    }


def of_epochs(number: int, *, shard: int = 0, **drawn: tuple[str, str]) -> dict[str, object]:
    by_epoch = {
        name: value
        for epoch, pair in drawn.items()
        for name, value in zip((f"caption_epoch_{epoch[1:]}", f"source_epoch_{epoch[1:]}"), pair, strict=True)
    }
    caption, source = next(iter(drawn.values()))
    return row(number, shard=shard) | by_epoch | {"caption": caption, "source": source}


def test_several_epochs_share_the_pictures_and_have_a_file_of_captions_each(tmp_path, shards):
    several = replace(shards, fields=Fields(epochs=(4, 1), scored=False))
    alt, new, other = ("alt", "original"), ("a cat", "recaption"), ("alt", "fallback")
    rows = [
        of_epochs(1, e4=alt, e1=new),
        of_epochs(2, e4=other, e1=other),
        of_epochs(3, shard=7, e4=new, e1=alt),
    ]
    answers = written(rows, several)
    assert {(a["name"], a["rows"], a["original"], a["recaption"], a["fallback"]) for a in answers} == {
        *(
            (f"{name}/00000000.{of}", 2, 1, 0, 1)
            for name, of in (("webdataset", "tar"), ("parquet", "parquet"))
        ),
        *(
            (f"{name}/00000007.{of}", 1, 0, 1, 0)
            for name, of in (("webdataset", "tar"), ("parquet", "parquet"))
        ),
        ("captions/epoch-4/00000000.parquet", 2, 1, 0, 1),
        ("captions/epoch-4/00000007.parquet", 1, 0, 1, 0),
        ("captions/epoch-1/00000000.parquet", 2, 0, 1, 1),
        ("captions/epoch-1/00000007.parquet", 1, 1, 0, 0),
    }
    with tarfile.open(tmp_path / "webdataset/00000000.tar") as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar}
    first, second = (f"{number:032x}" for number in (1, 2))
    assert sorted(members) == [f"{uid}.{kind}" for uid in (first, second) for kind in ("jpg", "json", "txt")]
    assert members[f"{first}.txt"] == b"alt"
    said = json.loads(members[f"{first}.json"])
    assert [said[f"{what}_epoch_{epoch}"] for epoch in (4, 1) for what in ("caption", "source")] == [
        *alt,
        *new,
    ]
    captions = pq.read_table(tmp_path / "captions/epoch-1/00000000.parquet").to_pylist()
    assert [tuple(each.values()) for each in captions] == [(first, *new), (second, *other)]


def test_the_manifest_names_every_kind_of_file_that_is_written(tmp_path, shards):
    several = replace(shards, fields=Fields(epochs=(0, 1), scored=False))
    answers = written([of_epochs(1, e0=("alt", "original"), e1=("alt", "fallback"))], several)
    patterns = layout_of(several.formats, several.fields)
    assert {a["name"].replace("00000000", "NNNNNNNN") for a in answers} == patterns.keys()


def test_files_of_captions_are_no_shards_of_pictures_to_import(tmp_path, shards):
    several = replace(shards, fields=Fields(epochs=(0, 1), scored=False))
    written([of_epochs(1, e0=("alt", "original"), e1=("alt", "fallback"))], several)
    assert [one.path for one in list_shards(str(tmp_path))] == [
        "parquet/00000000.parquet",
        "webdataset/00000000.tar",
    ]
