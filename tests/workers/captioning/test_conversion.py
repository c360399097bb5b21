"""A checkpoint in the original LLaVA layout is written in the published one, and answers the same."""

import json
import shutil
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml
from laptop import with_captioner
from PIL import Image
from repository import CONF
from safetensors.torch import load_file, save_file
from tiny_checkpoint import SIDE, TEMPLATE, logits, rewrite, some_pixels
from transformers import AutoProcessor, LlavaForConditionalGeneration
from typer.testing import CliRunner

from recap_spark.cli import app
from recap_spark.errors import InputError, WeightsError
from recap_spark.miniature.original_layout import END, TURN_END
from recap_spark.models.pixels import OPENAI_FILL, OPENAI_MEAN, OPENAI_STD, normalise, to_pixels
from recap_spark.models.tensor_files import tensors_in
from recap_spark.workers.captioning.captioner import CaptionerSpec, load_captioner, prepare_image
from recap_spark.workers.captioning.captions import stream_captions
from recap_spark.workers.captioning.checkpoint import layout_of, load_llava
from recap_spark.workers.captioning.conversion import convert_captioner
from recap_spark.workers.partition import stream_partition
from recap_spark.workers.rows import Row


def test_the_converted_layout_holds_every_tensor_and_answers_the_same(made, tmp_path):
    target = tmp_path / "models" / "converted"
    convert_captioner(made.spec.captioner, target)
    ours, processor = load_llava(made.spec.captioner, dtype=torch.float32, device="cpu")
    theirs, report = LlavaForConditionalGeneration.from_pretrained(
        target, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in theirs.state_dict().items())
    written = json.loads((target / "config.json").read_text())
    assert (written["dtype"], written["architectures"]) == ("float16", ["LlavaForConditionalGeneration"])
    for name in ("image_token_id", "vision_feature_layer", "vision_feature_select_strategy"):
        assert getattr(theirs.config, name) == getattr(ours.config, name)
    assert theirs.generation_config.eos_token_id == [END, TURN_END]
    published = with_captioner(made.spec, model=str(target), parts=None, template=None)
    captioner = load_captioner(published, "cpu")
    assert captioner.prompt_ids == load_captioner(made.spec, "cpu").prompt_ids
    spelled = replace(TEMPLATE, text=TEMPLATE.text.replace("<|eot_id|>", "!"))
    other = load_captioner(with_captioner(published, template=spelled), "cpu")
    assert other.tokenizer.decode(other.prompt_ids).endswith("Say.!")
    assert AutoProcessor.from_pretrained(target).chat_template == processor.chat_template
    ids, pixels = captioner.prompt_ids, some_pixels()
    assert torch.equal(logits(captioner.model, ids, pixels), logits(ours, ids, pixels))
    assert torch.equal(logits(theirs.eval(), ids, pixels), logits(ours, ids, pixels))
    assert captioner.model.config._attn_implementation == theirs.config._attn_implementation
    assert [path.name for path in target.parent.iterdir()] == ["converted"]


def test_a_converted_tensor_keeps_the_type_it_was_stored_in(whole, tmp_path):
    def half(tensors):
        for name in list(tensors):
            if not name.startswith("model.vision_tower.") and tensors[name].is_floating_point():
                tensors[name] = tensors[name].half()

    rewrite(whole, half)
    convert_captioner(whole.spec.captioner, tmp_path / "converted")
    types = {stored.name: stored.dtype for stored in tensors_in(tmp_path / "converted").values()}
    assert {name.split(".")[0]: dtype for name, dtype in types.items()} == {
        "language_model": "F16",
        "multi_modal_projector": "F16",
        "vision_tower": "F32",
    }
    model, _ = load_llava(whole.spec.captioner, dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_converted_layout_has_other_engines_pad_as_this_one_does(whole, tmp_path):
    convert_captioner(whole.spec.captioner, tmp_path / "converted")
    noise = torch.randint(256, (30, 90, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    picture = Image.fromarray(noise.numpy())
    red, green, blue = OPENAI_FILL
    ours = normalise(
        to_pixels(picture, side=SIDE, fill=(red, green, blue))[None], mean=OPENAI_MEAN, std=OPENAI_STD
    )
    images = AutoProcessor.from_pretrained(tmp_path / "converted").image_processor
    theirs = images(picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1.1 / 255 / min(OPENAI_STD))  # one step of a byte


def test_a_published_checkpoint_that_lacks_a_tensor_is_refused(whole, tmp_path):
    convert_captioner(whole.spec.captioner, tmp_path / "converted")
    (tmp_path / "converted" / "model.safetensors.index.json").unlink()
    tensors = {}
    for file in sorted((tmp_path / "converted").glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    del tensors["language_model.model.norm.weight"]
    save_file(tensors, tmp_path / "converted" / "model.safetensors", {"format": "pt"})
    published = with_captioner(whole.spec, model=str(tmp_path / "converted"), parts=None, template=None)
    with pytest.raises(WeightsError, match=r"language_model\.norm\.weight: no tensor fills it"):
        load_captioner(published, "cpu")


def test_a_conversion_that_fails_leaves_nothing_behind(whole, tmp_path):
    rewrite(whole, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(WeightsError):
        convert_captioner(whole.spec.captioner, tmp_path / "models" / "converted")
    assert not list(tmp_path.glob("models/*"))


def test_a_conversion_overwrites_nothing_and_converts_nothing_twice(whole, tmp_path):
    target = tmp_path / "converted"
    convert_captioner(whole.spec.captioner, target)
    with pytest.raises(InputError, match="want a folder that is not there yet"):
        convert_captioner(whole.spec.captioner, target)
    source = whole.spec.captioner.model_copy(update={"model": str(target)})
    with pytest.raises(InputError, match="in the published layout already"):
        convert_captioner(source, tmp_path / "again")


def test_the_command_converts_a_captioner_of_conf(whole, tmp_path):
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    templates = conf / "captioners" / "templates"
    (templates / "tiny.yml").write_text(yaml.safe_dump({"version": 3, "text": TEMPLATE.text}))
    parts = {name: {"model": str(tmp_path / name), "revision": None} for name in ("tokenizer", "tower")}
    settings = yaml.safe_load((conf / "captioners" / "llava_hqedit.yml").read_text()) | {
        "model": str(whole.folder),
        "parts": {"tokenizer": parts["tokenizer"], "vision_tower": parts["tower"]},
        "template": "tiny",
    }
    (conf / "captioners" / "tiny.yml").write_text(yaml.safe_dump(settings))
    target = tmp_path / "converted"
    command = ["convert-captioner", "tiny", str(target), "--conf", str(conf / "base.yml")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert layout_of(target) == "llava"
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert "InputError" in again.output


def pictures(count: int) -> list[Row]:
    rows = []
    for number in range(count):
        out = BytesIO()
        Image.new("RGB", (SIDE, SIDE - number), (40 * number, 90, 255 - 40 * number)).save(out, "PNG")
        rows.append({"uid": f"{number:032x}", "bytes": out.getvalue()})
    return rows


def captions(spec: CaptionerSpec) -> list[Row]:
    parts = [pa.RecordBatch.from_pylist(pictures(5))]
    stream = partial(stream_captions, key="tiny-1")
    answers = stream_partition(parts, spec=spec, device=lambda: "cpu", prepare=prepare_image, stream=stream)
    return sorted((row for batch in answers for row in batch.to_pylist()), key=lambda row: row["uid"])


def test_either_engine_captions_alike_from_either_layout(whole, tmp_path):
    convert_captioner(whole.spec.captioner, tmp_path / "converted")
    published = with_captioner(whole.spec, model=str(tmp_path / "converted"), parts=None, template=None)
    said = captions(whole.spec)
    assert len({row["caption"] for row in said}) > 1
    for spec in (whole.spec, published):
        assert captions(with_captioner(spec, engine="generate")) == said
        assert captions(with_captioner(spec, engine="slots")) == said
