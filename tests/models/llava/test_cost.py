"""The arithmetic of a caption, against figures worked out by hand for LLaVA-1.5 on LLaMA-3-8B at 336 px."""

from __future__ import annotations

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from recap_spark.models.llava.cost import caption_flop, decode_bytes, dimensions, least_seconds

FULL_SIZE = dimensions(
    LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        ),
        vision_feature_layer=-2,
    )
)


def test_the_decoder_has_the_published_number_of_parameters():
    assert FULL_SIZE.layer_parameters == 6_979_321_856
    # with the embedding and the norms: 8.03e9
    assert FULL_SIZE.layer_parameters + 2 * FULL_SIZE.head_parameters + 65 * 4096 == 8_030_261_248


def test_a_caption_of_66_tokens_takes_ten_teraflop_most_of_them_for_the_prompt():
    flop = caption_flop(FULL_SIZE, text_tokens=30, new_tokens=66)
    assert flop.vision == pytest.approx(0.366e12, rel=2e-3)
    assert flop.projector == pytest.approx(0.024e12, rel=2e-2)
    assert flop.prefill == pytest.approx(8.556e12, rel=1e-3)
    assert flop.decode == pytest.approx(0.997e12, rel=1e-3)


def test_a_gpu_of_788_teraflop_makes_at_most_78_captions_a_second():
    flop = caption_flop(FULL_SIZE, text_tokens=30, new_tokens=66)
    read = decode_bytes(FULL_SIZE, text_tokens=30, new_tokens=66, slots=1024, element_bytes=2)
    least = least_seconds(flop, read, flop_per_s=788e12, bytes_per_s=4.3e12)
    assert 1 / least == pytest.approx(78, abs=1.5)


def test_few_slots_read_the_weights_for_few():
    def read(slots):
        return decode_bytes(FULL_SIZE, text_tokens=30, new_tokens=66, slots=slots, element_bytes=2)

    weights = 2 * (FULL_SIZE.layer_parameters + FULL_SIZE.head_parameters)
    assert read(1) - read(2) == pytest.approx(65 * weights / 2)
