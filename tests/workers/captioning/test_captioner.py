"""The bundled captioner through the captioner's own loading code."""

import io
import shutil
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from laptop import captioner, with_captioner

from recap_spark.errors import WeightsError
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.settings.model_source import resolve
from recap_spark.workers.captioning.captioner import (
    CaptionerSpec,
    describe_captioner,
    load_captioner,
    prepare_image,
)
from recap_spark.workers.captioning.captions import answer_captions
from recap_spark.workers.partition import run_partition

BY_GENERATE = {"captioner__engine": "generate", "decode_threads": 2}
SPEC = captioner(**BY_GENERATE, batch_size=16)


def images(count: int) -> list[dict[str, object]]:
    return [{"uid": f"{n:032x}", "bytes": render_bytes(draw_scene(HELD_OUT[n]))} for n in range(count)]


def captions(spec: CaptionerSpec, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    answer = partial(answer_captions, key="miniature-1")
    parts = [pa.RecordBatch.from_pylist(rows)]
    answers = run_partition(parts, spec=spec, device=lambda: "cpu", prepare=prepare_image, answer=answer)
    return [row for batch in answers for row in batch.to_pylist()]


@pytest.mark.parametrize("batch_size", [3, 8])
def test_the_captions_of_a_batch_are_those_of_batch_size_one(batch_size):
    rows = images(8)
    alone = captions(captioner(**BY_GENERATE, batch_size=1), rows)
    assert captions(captioner(**BY_GENERATE, batch_size=batch_size), rows) == alone
    assert {row["finish_reason"] for row in alone} == {"stop"}


def test_bytes_that_do_not_decode_are_a_status_and_cost_no_other_row():
    rows = images(3)
    rows[1] = {"uid": "b" * 32, "bytes": b"\xff\xd8\xff no picture"}
    answered = captions(SPEC, rows)
    assert [row["status"] for row in answered] == ["ok", "undecodable", "ok"]
    assert answered[1]["caption"] is None
    assert [row["uid"] for row in answered] == [row["uid"] for row in rows]


def test_a_caption_cut_by_the_limit_says_so():
    (row,) = captions(with_captioner(SPEC, max_new_tokens=5), images(1))
    assert (row["finish_reason"], row["tokens"], row["status"]) == ("length", 5, "ok")


def test_a_captioner_stops_at_each_of_its_stop_tokens():
    loaded = load_captioner(SPEC, "cpu")
    assert len(loaded.stop_ids) == 2


def test_the_prompt_begins_once_and_holds_one_token_for_every_patch():
    loaded = load_captioner(SPEC, "cpu")
    begin = loaded.tokenizer.bos_token_id
    assert loaded.prompt_ids.count(begin) == 1
    assert loaded.prompt_ids.count(loaded.model.config.image_token_id) == 64


def test_another_prompt_or_other_weights_are_another_captioner(tmp_path):
    shutil.copytree(resolve(SPEC.captioner.model), tmp_path / "copy")
    same = describe_captioner(with_captioner(SPEC, model=str(tmp_path / "copy")))
    (weights,) = (tmp_path / "copy").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    touched = describe_captioner(with_captioner(SPEC, model=str(tmp_path / "copy")))
    prompted = describe_captioner(with_captioner(SPEC, prompt="What is this?"))
    keys = {row["captioner"] for row in (describe_captioner(SPEC), touched, prompted)}
    assert len(keys) == 3
    assert same["weights_sha256"] != touched["weights_sha256"]


def test_speed_settings_do_not_make_another_captioner():
    assert describe_captioner(captioner(batch_size=1, decode_threads=8)) == describe_captioner(SPEC)


def test_weights_that_are_not_there_are_named():
    with pytest.raises(WeightsError, match="miniature:nothing: want a folder nothing"):
        resolve("miniature:nothing")


def test_a_picture_of_any_mode_is_captioned(tmp_path: Path):
    from PIL import Image

    rows = []
    for number, mode in enumerate(("L", "P", "RGBA", "CMYK", "1", "I;16")):
        out = io.BytesIO()
        Image.new(mode, (40, 60)).save(out, "TIFF")
        rows.append({"uid": f"{number:032x}", "bytes": out.getvalue()})
    assert {row["status"] for row in captions(with_captioner(SPEC, max_new_tokens=3), rows)} == {"ok"}
