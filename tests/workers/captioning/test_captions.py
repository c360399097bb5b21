"""Both engines give the same rows of captions, in batches as they come."""

from __future__ import annotations

import io
from functools import partial

import pyarrow as pa
import pytest
import torch
from laptop import captioner, with_captioner
from PIL import Image
from torch import Tensor, nn

from recap_spark.errors import PlatformError
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.workers.captioning.captioner import (
    CaptionerSpec,
    describe_captioner,
    load_captioner,
    prepare_image,
)
from recap_spark.workers.captioning.captions import CAPTIONED, engine_uid, poison_row, stream_captions
from recap_spark.workers.captioning.journal import Journal, Survivor
from recap_spark.workers.partition import stream_partition
from recap_spark.workers.rows import Row

SIZES = {"batch_size": 5, "slots": 4, "prefill_batch": 2, "decode_threads": 2}
SPEC = captioner(**SIZES, captioner__max_new_tokens=40)


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
    theirs = by_uid(batches(with_captioner(SPEC, engine="generate"), rows))
    assert by_uid(ours) == theirs
    assert {row["finish_reason"] for row in theirs} == {"stop", "length", None}
    assert theirs[3]["status"] == "undecodable"
    assert max(batch.num_rows for batch in ours) == SPEC.batch_size


def test_a_picture_that_kills_its_decoder_is_undecodable_and_the_others_are_captioned():
    slow = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(slow, "PNG", compress_level=1)
    rows = images(4)
    rows[1]["bytes"] = slow.getvalue()
    decode = {"largest_pixels": 100_000_000, "memory_bytes": 1 << 30, "cpu_s": 0.3}
    spec = captioner(**SIZES, captioner__max_new_tokens=4, decode=decode)
    answered = by_uid(batches(spec, rows))
    assert [row["status"] for row in answered] == ["ok", "undecodable", "ok", "ok"]


def test_a_partition_of_damaged_pictures_has_a_row_for_each():
    rows = [{"uid": f"{n:032x}", "bytes": b"no picture"} for n in range(3)]
    assert [row["status"] for row in by_uid(batches(SPEC, rows))] == ["undecodable"] * 3


def survive(spec: CaptionerSpec, rows: list[Row], *, deadly: Row, journal: Journal) -> list[pa.RecordBatch]:
    """One attempt of a task on a new process's captioner, whose accelerator fails of one image."""
    loaded = load_captioner(spec, "cpu")
    poison = prepare_image(loaded, deadly).pixels

    def fails(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, std = (torch.tensor(values)[:, None, None] for values in (loaded.mean, loaded.std))
        seen = ((inputs[0] * std + mean) * 255).round().to(torch.uint8)
        if any(torch.equal(pixels, poison) for pixels in seen):
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    loaded.model.model.vision_tower.embeddings.patch_embedding.register_forward_pre_hook(fails)
    survivor = Survivor(
        stream=partial(stream_captions, key="miniature-1"),
        engine_uid=engine_uid,
        poisoned=partial(poison_row, key="miniature-1"),
        journal=journal,
        together=spec.batch_size,
        schema=CAPTIONED,
    )
    return list(survivor(loaded, iter([prepare_image(loaded, row) for row in rows])))


@pytest.mark.parametrize("engine", ["slots", "generate"])
def test_an_image_that_breaks_either_engine_twice_is_poison_and_costs_no_other_row(tmp_path, engine):
    spec, rows = with_captioner(SPEC, engine=engine, max_new_tokens=6), images(8)
    rows[2]["bytes"] = b"\xff\xd8\xff no picture"
    journal = Journal(str(tmp_path))
    attempt = partial(survive, spec, rows, deadly=rows[6], journal=journal)
    for _ in range(2):
        with pytest.raises(PlatformError, match="device-side assert"):
            attempt()
    answered, expected = by_uid(attempt()), by_uid(batches(spec, rows))
    assert answered[6] == dict.fromkeys(CAPTIONED.names) | poison_row(rows[6]["uid"], key="miniature-1")
    assert [*answered[:6], *answered[7:]] == [*expected[:6], *expected[7:]]
    assert set(journal.deaths()) >= {rows[6]["uid"]}


@pytest.mark.parametrize(
    "changed", [{"captioner__engine": "generate"}, {"slots": 9}, {"engine_memory_bytes": 1 << 30}]
)
def test_how_captions_are_made_does_not_make_another_captioner(changed):
    assert describe_captioner(captioner(**changed)) == describe_captioner(captioner())


def test_float8_makes_another_captioner():
    other = describe_captioner(with_captioner(SPEC, float8_linears=True))
    assert other["captioner"] != describe_captioner(SPEC)["captioner"]
    assert other["dtype"] == "float32, float8 linears"
