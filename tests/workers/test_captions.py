"""Both engines give the same rows of captions, in batches as they come."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pyarrow as pa
import pytest

from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.workers.captioner import CaptionerSpec, describe_captioner, prepare_image
from recap_spark.workers.captions import stream_captions
from recap_spark.workers.partition import Row, stream_partition

SPEC = CaptionerSpec(
    name="miniature",
    model="miniature:captioner",
    revision=None,
    parts=None,
    template=None,
    prompt="Please generate a detailed caption of this image. Please be as descriptive as possible.",
    max_new_tokens=40,
    dtype="float32",
    engine="slots",
    float8_linears=False,
    batch_size=5,
    slots=4,
    prefill_batch=2,
    engine_memory_bytes=None,
    decode_threads=2,
    engine_threads=1,
    largest_pixels=1_000_000,
)


def images(count: int) -> list[Row]:
    return [{"uid": f"{n:032x}", "bytes": render_bytes(draw_scene(HELD_OUT[n]))} for n in range(count)]


def batches(spec: CaptionerSpec, rows: list[Row]) -> list[pa.RecordBatch]:
    stream = partial(stream_captions, key="miniature-1")
    parts = [pa.RecordBatch.from_pylist(rows)]
    return list(
        stream_partition(parts, spec=spec, device=lambda: "cpu", prepare=prepare_image, stream=stream)
    )


def by_uid(answers: list[pa.RecordBatch]) -> list[Row]:
    return sorted((row for batch in answers for row in batch.to_pylist()), key=lambda row: row["uid"])


def test_both_engines_give_the_same_rows():
    rows = images(12)
    rows[3]["bytes"] = b"\xff\xd8\xff no picture"
    ours = batches(SPEC, rows)
    theirs = by_uid(batches(replace(SPEC, engine="generate"), rows))
    assert by_uid(ours) == theirs
    assert {row["finish_reason"] for row in theirs} == {"stop", "length", None}
    assert theirs[3]["status"] == "undecodable"
    assert max(batch.num_rows for batch in ours) == SPEC.batch_size


def test_a_partition_of_damaged_pictures_has_a_row_for_each():
    rows = [{"uid": f"{n:032x}", "bytes": b"no picture"} for n in range(3)]
    assert [row["status"] for row in by_uid(batches(SPEC, rows))] == ["undecodable"] * 3


@pytest.mark.parametrize("changed", [{"engine": "generate"}, {"slots": 9}, {"engine_memory_bytes": 1 << 30}])
def test_how_captions_are_made_does_not_make_another_captioner(changed):
    assert describe_captioner(replace(SPEC, **changed)) == describe_captioner(SPEC)


def test_float8_makes_another_captioner():
    other = describe_captioner(replace(SPEC, float8_linears=True))
    assert other["captioner"] != describe_captioner(SPEC)["captioner"]
    assert other["dtype"] == "float32, float8 linears"
