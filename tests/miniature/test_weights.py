"""The models that lie in the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, CLIPModel, LlavaForConditionalGeneration

from recap_spark.miniature.quality import WEIGHTS, caption_scenes, measure_captions, measure_clip
from recap_spark.miniature.world import HELD_OUT, draw_scene

CAPTIONER = WEIGHTS / "captioner"
CLIP = WEIGHTS / "clip"


@pytest.fixture(scope="module")
def captioner():
    return LlavaForConditionalGeneration.from_pretrained(CAPTIONER, local_files_only=True)


@pytest.fixture(scope="module")
def clip():
    return CLIPModel.from_pretrained(CLIP, local_files_only=True)


def files() -> Iterator[Path]:
    return (path for path in WEIGHTS.rglob("*") if path.is_file())


def test_all_weights_together_stay_under_ten_megabytes():
    assert sum(path.stat().st_size for path in files()) < 10_000_000


def test_nothing_in_them_is_pickled():
    assert {path.suffix for path in files()} <= {".safetensors", ".json", ".jinja", ".md"}


def test_they_load_as_float32(captioner, clip):
    assert {captioner.dtype, clip.dtype} == {torch.float32}


def test_the_captioner_sees_through_the_clips_own_tower(captioner, clip):
    theirs = clip.vision_model.state_dict()
    ours = captioner.model.vision_tower.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(weights, theirs[name]) for name, weights in ours.items())


def test_generation_stops_at_either_end(captioner):
    tokenizer = AutoTokenizer.from_pretrained(CAPTIONER, local_files_only=True)
    ends = tokenizer.convert_ids_to_tokens(captioner.generation_config.eos_token_id)
    assert ends == ["<|end_of_text|>", "<|eot|>"]
    assert captioner.generation_config.max_new_tokens == 128
    assert not captioner.generation_config.do_sample


def test_the_processor_expands_one_image_to_as_many_tokens_as_there_are_patches(captioner):
    processor = AutoProcessor.from_pretrained(CAPTIONER, local_files_only=True)
    pixels = torch.zeros(3, 64, 64, dtype=torch.uint8)
    inputs = processor(text=["<image>"], images=[pixels], return_tensors="pt")
    assert inputs.input_ids.shape[1] == captioner.config.image_seq_length == 64
    assert processor.tokenizer.padding_side == "left"


@pytest.fixture(scope="module")
def quality():
    scenes = [draw_scene(number) for number in HELD_OUT[-96:]]
    return measure_captions(caption_scenes(scenes, folder=CAPTIONER), scenes=scenes)


def test_what_captions_of_held_out_scenes_say_is_mostly_true(quality):
    assert quality.share_true >= 0.85
    assert 30 <= quality.words / quality.scenes <= 60


def test_captions_of_held_out_scenes_mention_four_objects_in_five(quality):
    assert quality.share_mentioned >= 0.8


def test_clip_finds_a_pictures_description_among_a_hundred_and_prefers_it_to_the_alt_text():
    quality = measure_clip([draw_scene(number) for number in HELD_OUT[-100:]], folder=CLIP)
    assert quality.image_to_text >= 0.85
    assert quality.text_to_image >= 0.85
    assert quality.prefers_description >= 0.85
