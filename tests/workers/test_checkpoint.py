"""Checkpoints in the original LLaVA layout, made of a CLIP, a projector and a LLaMA, are loaded as one."""

import json
import shutil
import weakref
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)
from typer.testing import CliRunner

from recap_spark.cli import app
from recap_spark.errors import InputError, SettingsError, WeightsError
from recap_spark.miniature.original_layout import (
    BEGIN,
    BYTES,
    END,
    TURN_END,
    VOCABULARY,
    tensors_of,
    write_config,
    write_shards,
    write_tokenizer,
    write_tower,
)
from recap_spark.models.pixels import OPENAI_FILL, OPENAI_MEAN, OPENAI_STD, normalise, to_pixels
from recap_spark.models.tensor_files import read_tensors, tensors_in
from recap_spark.origins import Origin, folder_of
from recap_spark.workers.captioner import CaptionerSpec, describe_captioner, load_captioner, prepare_image
from recap_spark.workers.captions import stream_captions
from recap_spark.workers.checkpoint import Parts, layout_of, load_llava, load_processor
from recap_spark.workers.conversion import convert_captioner
from recap_spark.workers.decode_limits import DecodeLimits
from recap_spark.workers.partition import Row, stream_partition
from recap_spark.workers.templates import Template

SIDE, PATCH = 28, 14
TEMPLATE = Template(
    name="tiny",
    version=3,
    text="{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{{ '<image>\\n' if part['type'] == 'image' else part['text'] }}{% endfor %}<|eot_id|>{% endfor %}",
)


@dataclass(frozen=True)
class Made:
    """A checkpoint on the disk and the three models it was made of."""

    spec: CaptionerSpec
    folder: Path
    llama: LlamaForCausalLM
    clip: CLIPModel
    projector: nn.Sequential


def make(folder: Path, *, tower: str) -> Made:
    """`tower` says where the vision tower's weights are: in the checkpoint, or beside it."""
    torch.manual_seed(5)
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    clip = CLIPModel(
        CLIPConfig(
            vision_config=vision | {"image_size": SIDE, "patch_size": PATCH},
            text_config=text | {"num_attention_heads": 2},
            projection_dim=16,
        )
    ).eval()
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
            bos_token_id=BEGIN,
            eos_token_id=END,
        )
    ).eval()
    projector = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 48))
    for name in ("llava", "tokenizer", "tower"):
        (folder / name).mkdir()
    write_config(folder / "llava", llama, clip)
    inside = tower == "in the checkpoint"
    write_shards(folder / "llava", tensors_of(llama, clip, projector, tower=inside), count=4)
    write_tokenizer(folder / "tokenizer")
    write_tower(folder / "tower", clip, weights=not inside)
    spec = CaptionerSpec(
        name="tiny",
        model=str(folder / "llava"),
        revision=None,
        parts=Parts(
            tokenizer=Origin(model=str(folder / "tokenizer"), revision=None),
            vision_tower=Origin(model=str(folder / "tower"), revision=None),
        ),
        template=TEMPLATE,
        prompt="Say.",
        max_new_tokens=8,
        dtype="float32",
        engine="generate",
        float8_linears=False,
        batch_size=2,
        slots=3,
        prefill_batch=2,
        engine_memory_bytes=None,
        decode_threads=1,
        engine_threads=1,
        decode=DecodeLimits(largest_pixels=1_000_000, memory_bytes=256 << 20, cpu_s=20.0),
    )
    return Made(spec, folder / "llava", llama, clip, projector)


@pytest.fixture(params=["in the checkpoint", "beside it"])
def made(request, tmp_path) -> Made:
    return make(tmp_path, tower=request.param)


@pytest.fixture
def whole(tmp_path) -> Made:
    """A checkpoint that holds its vision tower, as the released one does."""
    return make(tmp_path, tower="in the checkpoint")


def rewrite(made: Made, change) -> None:
    """The checkpoint's tensors as `change` leaves them, in new shards."""
    tensors = {}
    for file in sorted(made.folder.glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    change(tensors)
    write_shards(made.folder, tensors, count=3)


def reconfigure(made: Made, **changes: object) -> None:
    file = made.folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@torch.inference_mode()
def logits_by_hand(made: Made, ids: list[int], image: int, pixels: torch.Tensor) -> torch.Tensor:
    """LLaVA's forward pass, of its three models: features of the layer before the last, without CLS."""
    hidden = made.clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    features = made.projector(hidden[-2][:, 1:])
    begin, end = ids.index(image), len(ids) - ids[::-1].index(image)
    embed = made.llama.get_input_embeddings()
    before, after = (embed(torch.tensor([part])) for part in (ids[:begin], ids[end:]))
    return made.llama(inputs_embeds=torch.cat([before, features, after], dim=1)).logits


@torch.inference_mode()
def logits(model: LlavaForConditionalGeneration, ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits


def some_pixels() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_the_original_layout_answers_as_the_models_it_is_made_of(made):
    captioner = load_captioner(made.spec, "cpu")
    ids, pixels = captioner.prompt_ids, some_pixels()
    expected = logits_by_hand(made, ids, captioner.model.config.image_token_id, pixels)
    torch.testing.assert_close(logits(captioner.model, ids, pixels), expected, rtol=0, atol=0)


def test_the_converted_layout_holds_every_tensor_and_answers_the_same(made, tmp_path):
    target = tmp_path / "models" / "converted"
    convert_captioner(made.spec.source, target)
    ours, processor = load_llava(made.spec.source, dtype=torch.float32, device="cpu")
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
    published = replace(made.spec, model=str(target), parts=None, template=None)
    captioner = load_captioner(published, "cpu")
    assert captioner.prompt_ids == load_captioner(made.spec, "cpu").prompt_ids
    spelled = replace(TEMPLATE, text=TEMPLATE.text.replace("<|eot_id|>", "!"))
    other = load_captioner(replace(published, template=spelled), "cpu")
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
    convert_captioner(whole.spec.source, tmp_path / "converted")
    types = {stored.name: stored.dtype for stored in tensors_in(tmp_path / "converted").values()}
    assert {name.split(".")[0]: dtype for name, dtype in types.items()} == {
        "language_model": "F16",
        "multi_modal_projector": "F16",
        "vision_tower": "F32",
    }
    model, _ = load_llava(whole.spec.source, dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_prompts_use_tokens_that_llama3_does_not(whole):
    captioner = load_captioner(whole.spec, "cpu")
    image, pad = captioner.model.config.image_token_id, captioner.tokenizer.pad_token_id
    assert captioner.tokenizer.convert_ids_to_tokens([image, pad]) == [
        "<|reserved_special_token_8|>",
        "<|reserved_special_token_7|>",
    ]
    assert captioner.prompt_ids.count(image) == (SIDE // PATCH) ** 2
    assert captioner.prompt_ids.count(BEGIN) == 1
    assert captioner.tokenizer.padding_side == "left"
    assert captioner.model.config.text_config.pad_token_id == pad


def test_a_caption_ends_at_both_of_llama3s_ends(whole):
    assert load_captioner(whole.spec, "cpu").stop_ids == {END, TURN_END}


def test_a_picture_is_padded_in_clips_mean_colour(whole):
    out = BytesIO()
    Image.new("RGB", (SIDE, SIDE // 4), (0, 0, 0)).save(out, "PNG")
    prepared = prepare_image(load_captioner(whole.spec, "cpu"), {"uid": "a" * 32, "bytes": out.getvalue()})
    assert tuple(prepared.pixels[:, 0, 0].tolist()) == OPENAI_FILL


def test_the_converted_layout_has_other_engines_pad_as_this_one_does(whole, tmp_path):
    convert_captioner(whole.spec.source, tmp_path / "converted")
    noise = torch.randint(256, (30, 90, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    picture = Image.fromarray(noise.numpy())
    red, green, blue = OPENAI_FILL
    ours = normalise(
        to_pixels(picture, side=SIDE, fill=(red, green, blue))[None], mean=OPENAI_MEAN, std=OPENAI_STD
    )
    images = AutoProcessor.from_pretrained(tmp_path / "converted").image_processor
    theirs = images(picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1.1 / 255 / min(OPENAI_STD))  # one step of a byte


def test_nothing_of_the_model_is_left_without_memory(whole):
    model, _ = load_llava(whole.spec.source, dtype=torch.float32, device="cpu")
    assert not [
        name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta
    ]


def test_a_tensor_that_no_parameter_takes_is_named(whole):
    rewrite(whole, lambda tensors: tensors.update({"model.image_newline": torch.zeros(48)}))
    with pytest.raises(WeightsError, match=r"model\.image_newline: no parameter takes it"):
        load_llava(whole.spec.source, dtype=torch.float32, device="cpu")


def test_a_parameter_that_no_tensor_fills_is_named(whole):
    rewrite(whole, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(WeightsError, match=r"layers\.1\.mlp\.up_proj\.weight: no tensor fills it"):
        load_llava(whole.spec.source, dtype=torch.float32, device="cpu")


def test_a_part_of_a_vision_tower_is_not_made_whole_from_elsewhere(whole):
    gone = "model.vision_tower.vision_tower.vision_model.post_layernorm.bias"
    rewrite(whole, lambda tensors: tensors.pop(gone))
    with pytest.raises(WeightsError, match=r"vision_tower\.post_layernorm\.bias: no tensor fills it"):
        load_llava(whole.spec.source, dtype=torch.float32, device="cpu")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(whole):
    rewrite(whole, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(VOCABULARY + 1, 48)}))
    with pytest.raises(WeightsError, match=rf"lm_head.weight: want shape \({VOCABULARY}, 48\), found"):
        load_llava(whole.spec.source, dtype=torch.float32, device="cpu")


def test_a_shard_that_is_missing_or_cut_off_is_named(whole):
    file = whole.folder / "model-00002-of-00004.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(WeightsError, match=rf"{file.name}: want {len(data)} bytes, found {len(data) - 1}"):
        tensors_in(whole.folder)
    file.unlink()
    with pytest.raises(WeightsError, match=f"{file.name}: want a safetensors file, found none"):
        tensors_in(whole.folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio: want 'pad', found 'anyres'"),
        ({"mm_projector_type": "linear"}, "mm_projector_type: want 'mlp2x_gelu', found 'linear'"),
        ({"mm_hidden_size": 1152}, "mm_hidden_size: want the vision tower's 32, found 1152"),
        ({"model_type": "llava_qwen"}, "want model_type llava or llava_llama, found 'llava_qwen'"),
        ({"eos_token_id": 2}, "want the checkpoint's eos_token_id 2"),
        ({"bos_token_id": 1}, f"want the checkpoint's bos_token_id 1, found {BEGIN}"),
        ({"vocab_size": BYTES}, f"want two reserved special tokens below {BYTES}"),
    ],
)
def test_another_kind_of_llava_is_refused_by_what_it_says(whole, changes, said):
    reconfigure(whole, **changes)
    with pytest.raises(WeightsError, match=said):
        load_llava(whole.spec.source, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("lacking", ["parts", "template"])
def test_what_the_original_layout_lacks_is_asked_for(whole, lacking):
    with pytest.raises(SettingsError, match=f"want {lacking}, found null"):
        load_processor(replace(whole.spec, **{lacking: None}).source)


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_hub_name_without_a_commit_is_refused(revision):
    with pytest.raises(SettingsError, match="tennant/llava-llama-3-8b-hqedit: want revision to be a commit"):
        folder_of(Origin(model="tennant/llava-llama-3-8b-hqedit", revision=revision), files="texts")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match="want a folder, or owner/name on the hub, found neither"):
        folder_of(Origin(model=str(tmp_path / "nothing"), revision=None), files="all")


def test_a_published_checkpoint_that_lacks_a_tensor_is_refused(whole, tmp_path):
    convert_captioner(whole.spec.source, tmp_path / "converted")
    (tmp_path / "converted" / "model.safetensors.index.json").unlink()
    tensors = {}
    for file in sorted((tmp_path / "converted").glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    del tensors["language_model.model.norm.weight"]
    save_file(tensors, tmp_path / "converted" / "model.safetensors", {"format": "pt"})
    published = replace(whole.spec, model=str(tmp_path / "converted"), parts=None, template=None)
    with pytest.raises(WeightsError, match=r"language_model\.norm\.weight: no tensor fills it"):
        load_captioner(published, "cpu")


def test_a_conversion_that_fails_leaves_nothing_behind(whole, tmp_path):
    rewrite(whole, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(WeightsError):
        convert_captioner(whole.spec.source, tmp_path / "models" / "converted")
    assert not list(tmp_path.glob("models/*"))


def test_a_conversion_overwrites_nothing_and_converts_nothing_twice(whole, tmp_path):
    target = tmp_path / "converted"
    convert_captioner(whole.spec.source, target)
    with pytest.raises(InputError, match="want a folder that is not there yet"):
        convert_captioner(whole.spec.source, target)
    source = replace(whole.spec.source, origin=Origin(model=str(target), revision=None))
    with pytest.raises(InputError, match="in the published layout already"):
        convert_captioner(source, tmp_path / "again")


def test_one_tensor_at_a_time_is_in_memory_while_they_are_read(whole):
    read = []
    for _, tensor in read_tensors(tensors_in(whole.folder).values()):
        assert not any(earlier() for earlier in read)
        read.append(weakref.ref(tensor))
        del tensor
    assert len(read) == len(tensors_in(whole.folder))


def test_another_template_or_version_or_part_is_another_captioner(whole, tmp_path):
    row = describe_captioner(whole.spec)
    assert row["template"] == "tiny@3"
    later = replace(whole.spec, template=replace(TEMPLATE, version=4))
    keys = [row["captioner"], describe_captioner(later)["captioner"]]
    with (tmp_path / "tower" / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    keys.append(describe_captioner(whole.spec)["captioner"])
    assert len(set(keys)) == 3


def test_the_command_converts_a_captioner_of_conf(whole, tmp_path):
    conf = Path(shutil.copytree(Path(__file__).parents[2] / "conf", tmp_path / "conf"))
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
    convert_captioner(whole.spec.source, tmp_path / "converted")
    published = replace(whole.spec, model=str(tmp_path / "converted"), parts=None, template=None)
    said = captions(whole.spec)
    assert len({row["caption"] for row in said}) > 1
    for spec in (whole.spec, published):
        assert captions(replace(spec, engine="generate")) == said
        assert captions(replace(spec, engine="slots")) == said
