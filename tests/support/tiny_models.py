"""Models of some thousand random weights; each test changes only the sizes that it is about"""

from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

_LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_PICTURE = {"image_size": 16, "patch_size": 8}


def tower(**changes: Any) -> CLIPVisionConfig:
    """A vision tower of four patches."""
    return CLIPVisionConfig(**(_LAYERS | _PICTURE | {"intermediate_size": 16} | changes))


def decoder(words: int, **changes: Any) -> LlamaConfig:
    """A LLaMA that knows so many words."""
    return LlamaConfig(**(_LAYERS | {"vocab_size": words, "intermediate_size": 32} | changes))


def llava(vision: CLIPVisionConfig, text: LlamaConfig, **changes: Any) -> LlavaForConditionalGeneration:
    """The same weights each time."""
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, **changes))


def clip(*, seed: int, vision: dict[str, Any], text: dict[str, Any]) -> CLIPModel:
    """Towers of one layer, and the same weights each time."""
    torch.manual_seed(seed)
    small = _LAYERS | {"intermediate_size": 32, "num_hidden_layers": 1, "projection_dim": 16}
    both = {"vision_config": small | _PICTURE | vision, "text_config": small | text}
    return CLIPModel(CLIPConfig(**both, projection_dim=16))
