"""A checkpoint that is damaged, of another kind or not there is refused by what is wrong with it."""

import json

import pytest
import torch
from laptop import with_captioner
from tiny_checkpoint import Made, rewrite

from recap_spark.errors import SettingsError, WeightsError
from recap_spark.miniature.original_layout import BEGIN, BYTES, VOCABULARY
from recap_spark.models.tensor_files import tensors_in
from recap_spark.settings.model_source import Origin, folder_of
from recap_spark.workers.captioning.checkpoint import load_llava, load_processor


def reconfigure(made: Made, **changes: object) -> None:
    file = made.folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_tensor_that_no_parameter_takes_is_named(whole):
    rewrite(whole, lambda tensors: tensors.update({"model.image_newline": torch.zeros(48)}))
    with pytest.raises(WeightsError, match=r"model\.image_newline: no parameter takes it"):
        load_llava(whole.spec.captioner, dtype=torch.float32, device="cpu")


def test_a_parameter_that_no_tensor_fills_is_named(whole):
    rewrite(whole, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(WeightsError, match=r"layers\.1\.mlp\.up_proj\.weight: no tensor fills it"):
        load_llava(whole.spec.captioner, dtype=torch.float32, device="cpu")


def test_a_part_of_a_vision_tower_is_not_made_whole_from_elsewhere(whole):
    gone = "model.vision_tower.vision_tower.vision_model.post_layernorm.bias"
    rewrite(whole, lambda tensors: tensors.pop(gone))
    with pytest.raises(WeightsError, match=r"vision_tower\.post_layernorm\.bias: no tensor fills it"):
        load_llava(whole.spec.captioner, dtype=torch.float32, device="cpu")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(whole):
    rewrite(whole, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(VOCABULARY + 1, 48)}))
    with pytest.raises(WeightsError, match=rf"lm_head.weight: want shape \({VOCABULARY}, 48\), found"):
        load_llava(whole.spec.captioner, dtype=torch.float32, device="cpu")


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
        ({"hidden_size": "wide"}, "want a LLaVA in the layout llava_llama, found "),
        ({"num_hidden_layers": 1 << 31}, "want num_hidden_layers of at most 1000, found 2147483648"),
    ],
)
def test_another_kind_of_llava_is_refused_by_what_it_says(whole, changes, said):
    reconfigure(whole, **changes)
    with pytest.raises(WeightsError, match=said):
        load_llava(whole.spec.captioner, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("lacking", ["parts", "template"])
def test_what_the_original_layout_lacks_is_asked_for(whole, lacking):
    with pytest.raises(SettingsError, match=f"want {lacking}, found null"):
        load_processor(with_captioner(whole.spec, **{lacking: None}).captioner)


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_hub_name_without_a_commit_is_refused(revision):
    with pytest.raises(SettingsError, match="tennant/llava-llama-3-8b-hqedit: want revision to be a commit"):
        folder_of(Origin(model="tennant/llava-llama-3-8b-hqedit", revision=revision), files="texts")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match="want a folder, or owner/name on the hub, found neither"):
        folder_of(Origin(model=str(tmp_path / "nothing"), revision=None), files="all")
