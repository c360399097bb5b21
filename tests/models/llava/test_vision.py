"""The vision tower's few products say what transformers' layers say."""

from __future__ import annotations

import pytest
import torch
from tiny_models import decoder, llava, tower
from transformers import LlavaForConditionalGeneration

from recap_spark.models.llava.vision import image_embeds, read_vision


def tiny(*, hidden_act: str, layer: int, strategy: str) -> LlavaForConditionalGeneration:
    # The factor takes features far from zero, where every activation is a line.
    vision = tower(intermediate_size=32, num_hidden_layers=3, hidden_act=hidden_act, initializer_factor=20.0)
    text = decoder(16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    how = {"vision_feature_layer": layer, "vision_feature_select_strategy": strategy}
    return llava(vision, text, image_token_index=9, **how).eval()


@pytest.mark.parametrize(
    ("hidden_act", "layer", "strategy"),
    [("quick_gelu", -2, "default"), ("quick_gelu", 3, "full"), ("gelu", -1, "default")],
)
def test_a_picture_looks_the_same_as_to_transformers(hidden_act, layer, strategy):
    model = tiny(hidden_act=hidden_act, layer=layer, strategy=strategy)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        theirs = torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))
        ours = image_embeds(read_vision(model), pixels)
        after = torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after, theirs)
