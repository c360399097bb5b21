"""A LLaVA's dimensions → the arithmetic and the bytes that a caption takes, and the time that no engine beats

A product of m × k and k × n counts 2 m k n; attention 4 e for each pair of positions; norms, rotations and
activations count nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Dimensions:
    """What the cost of a LLaVA with a CLIP tower and a LLaMA decoder depends on."""

    layers: int
    embedding: int
    intermediate: int
    heads: int
    groups: int  # key-value heads
    width: int  # of a head
    vocabulary: int
    vision_layers: int  # up to the one that is read
    vision_embedding: int
    vision_intermediate: int
    patches: int
    patch_values: int  # 3 * 14 * 14 in CLIP-L/14

    @property
    def layer_parameters(self) -> int:
        """Weights of the decoder's linears, all layers."""
        attention = self.embedding * self.width * 2 * (self.heads + self.groups)
        return self.layers * (attention + 3 * self.embedding * self.intermediate)

    @property
    def head_parameters(self) -> int:
        """Weights of the product to the vocabulary."""
        return self.vocabulary * self.embedding

    @property
    def parameters(self) -> int:
        """All weights but norms' and biases', which are less than a thousandth of them."""
        vision_layer = 4 * self.vision_embedding**2 + 2 * self.vision_embedding * self.vision_intermediate
        vision = self.vision_layers * vision_layer + self.patch_values * self.vision_embedding
        projector = (self.vision_embedding + self.embedding) * self.embedding
        return self.layer_parameters + 2 * self.head_parameters + vision + projector

    def cache_bytes(self, *, element_bytes: int) -> int:
        """Keys and values of one position, all layers."""
        return 2 * self.layers * self.groups * self.width * element_bytes


@dataclass(frozen=True)
class CaptionFlop:
    """Arithmetic of one caption by phase."""

    vision: float
    projector: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        return self.vision + self.projector + self.prefill + self.decode


def dimensions(config: Any) -> Dimensions:
    """Of a LlavaConfig."""
    text, vision, read = config.text_config, config.vision_config, config.vision_feature_layer
    return Dimensions(
        layers=text.num_hidden_layers,
        embedding=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        groups=text.num_key_value_heads,
        width=text.head_dim or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        vision_layers=read + vision.num_hidden_layers + 1 if read < 0 else read,
        vision_embedding=vision.hidden_size,
        vision_intermediate=vision.intermediate_size,
        patches=(vision.image_size // vision.patch_size) ** 2,
        patch_values=vision.num_channels * vision.patch_size**2,
    )


def caption_flop(model: Dimensions, *, text_tokens: int, new_tokens: float) -> CaptionFlop:
    """Of a prompt with so many tokens beside the image's, and a caption of so many on average, its stop among
    them. The last of them is not read again.
    """
    seen, prompt = model.patches + 1, model.patches + text_tokens
    vision_layer = 4 * model.vision_embedding**2 + 2 * model.vision_embedding * model.vision_intermediate
    pair = 4 * model.layers * model.heads * model.width
    steps = new_tokens - 1
    return CaptionFlop(
        vision=2 * seen * model.vision_layers * vision_layer
        + 4 * model.vision_layers * model.vision_embedding * seen**2
        + 2 * seen * model.patch_values * model.vision_embedding,
        projector=2 * model.patches * (model.vision_embedding + model.embedding) * model.embedding,
        prefill=2 * model.layer_parameters * prompt
        + pair * prompt * (prompt + 1) / 2
        + 2 * model.head_parameters,
        decode=2 * steps * (model.layer_parameters + model.head_parameters)
        + pair * steps * _mean_position(prompt, steps),
    )


def decode_bytes(
    model: Dimensions, *, text_tokens: int, new_tokens: float, slots: int, element_bytes: int
) -> float:
    """Read to decode one caption: its share of the weights at every step, and its own keys and values."""
    steps = new_tokens - 1
    weights = (model.layer_parameters + model.head_parameters) * element_bytes / slots
    position = _mean_position(model.patches + text_tokens, steps)
    return steps * (weights + position * model.cache_bytes(element_bytes=element_bytes))


def resident_bytes(
    model: Dimensions, *, positions: int, prompt_tokens: int, prompts: int, element_bytes: int
) -> tuple[int, int, int]:
    """What the slot engine holds on its device: all weights, what reading so many prompts at once takes at
    most, and the keys and values of one slot.
    """
    one_position = model.cache_bytes(element_bytes=element_bytes)
    queries = (model.heads + 2 * model.groups) * model.width
    inside = 4 * model.embedding + 2 * queries + 3 * model.intermediate
    prompt = prompt_tokens * (one_position + inside * element_bytes)
    return model.parameters * element_bytes, prompts * prompt, positions * one_position


def least_seconds(flop: CaptionFlop, read_bytes: float, *, flop_per_s: float, bytes_per_s: float) -> float:
    """For one caption: vision and prefill bound by arithmetic, each decode step by arithmetic or by memory,
    whichever takes longer; the two phases one after the other.
    """
    before = (flop.vision + flop.projector + flop.prefill) / flop_per_s
    return before + max(flop.decode / flop_per_s, read_bytes / bytes_per_s)


def _mean_position(prompt: int, steps: float) -> float:
    """Positions that a decode step looks at, on average."""
    return prompt + (steps + 1) / 2
