"""LLaMA's weights → logits: the decoder's forward pass as few operations, over a cache of slots

transformers' LlamaModel (models/llama/modeling_llama.py) computes the same. Here queries, keys and values are
one product, so are gate and up; the shared beginning of all prompts comes from memory; and the last layer
computes keys and values only for the positions whose logits no one asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from recap_spark.errors import WeightsError
from recap_spark.models.llava.attention import WIDTHS, has_kernels, prompt_attention, slot_attention
from recap_spark.models.llava.float8 import require_float8
from recap_spark.models.llava.linears import Linear, fused
from recap_spark.models.llava.operations import (
    KeysValues,
    Operations,
    Rows,
    fused_operations,
    plain_operations,
)

# b prompts, q new positions, s slots, t positions of a slot, h heads, g key-value heads, d width of a head,
# e embedding


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    attention_norm_e: Tensor
    qkv: Linear  # e → (h + g + g) * d
    out: Linear
    mlp_norm_e: Tensor
    gate_up: Linear  # e → 2 * intermediate
    down: Linear


@dataclass(frozen=True)
class Decoder:
    """A LLaMA, its weights shared with the transformers model they came from."""

    layers: Sequence[Layer]
    embedding_ve: Tensor
    norm_e: Tensor
    head: Linear
    cos_td: Tensor
    sin_td: Tensor  # of half the width: both halves turn by the same angles
    heads: int
    groups: int
    operations: Operations
    fused: bool  # whether this project's kernels run it, on a GPU

    @property
    def width(self) -> int:
        return self.cos_td.shape[1]


def read_decoder(model: Any, *, positions: int, float8: bool) -> Decoder:
    """The decoder of a LlavaForConditionalGeneration, for sequences of up to `positions`.

    The fused weights take the place of the model's own, whose linears become views of them: nothing is held
    twice, and the model still generates. With `float8` the model's own linears are given up instead.

    Raises WeightsError where the decoder is no LLaMA, PlatformError where float8 has no hardware.
    """
    llama, config = model.model.language_model, model.config.text_config
    if config.model_type != "llama" or config.hidden_act != "silu":
        raise WeightsError(
            "engine slots: want a LLaMA decoder with silu, found "
            f"{config.model_type} with {config.hidden_act}: engine generate takes any"
        )
    weight = llama.embed_tokens.weight
    if float8:
        require_float8(weight.device, weight.dtype)
    fused_kernels = has_kernels(weight.device, weight.dtype)
    if fused_kernels and (width := llama.layers[0].self_attn.head_dim) not in WIDTHS:
        raise WeightsError(
            f"engine slots: want heads of {WIDTHS} on a GPU, found {width}: use engine generate"
        )
    with torch.no_grad():
        cos, sin = llama.rotary_emb(weight[:1, :1], torch.arange(positions, device=weight.device)[None])
        return Decoder(
            layers=[_layer(layer, float8=float8) for layer in llama.layers],
            embedding_ve=weight.detach(),
            norm_e=llama.norm.weight.detach(),
            head=fused([model.lm_head], float8=False),
            cos_td=cos[0],
            sin_td=sin[0, :, : sin.shape[-1] // 2].contiguous(),
            heads=config.num_attention_heads,
            groups=config.num_key_value_heads,
            operations=_operations(config, fused=fused_kernels, float8=float8),
            fused=fused_kernels,
        )


def read_beginning(decoder: Decoder, tokens: Tensor) -> list[KeysValues]:
    """Keys and values [1, q, g, d] of every layer for the tokens [q] with which all prompts begin."""
    embeds = embedding(tokens, decoder.embedding_ve)[None]
    empty = embeds.new_zeros(1, 0, decoder.groups, decoder.width)
    if not tokens.numel():
        return [(empty, empty)] * len(decoder.layers)
    _, filled = read_prompts(decoder, embeds, [(empty, empty)] * len(decoder.layers))
    return filled


def read_prompts(
    decoder: Decoder, embeds: Tensor, beginning: Sequence[KeysValues]
) -> tuple[Tensor, list[KeysValues]]:
    """Embeddings [b, q, e] after a shared beginning → logits of the last position [b, v], and keys and values
    [b, q, g, d] of every layer for the cache.
    """
    batch, count, _ = embeds.shape
    first = beginning[0][0].shape[1]
    places = torch.arange(first, first + count, device=embeds.device).repeat(batch)
    rotate = decoder.operations.rotation(decoder.cos_td, decoder.sin_td, places)
    attend = prompt_attention(fused=decoder.fused)
    hidden, filled = embeds.flatten(0, 1), []
    rows = decoder.operations.norm(hidden, decoder.layers[0].attention_norm_e)
    for number, (layer, (first_keys, first_values)) in enumerate(zip(decoder.layers, beginning, strict=True)):
        turned = rotate(layer.qkv(rows), None)
        query, keys, values = (part.view(batch, count, *part.shape[1:]) for part in turned)
        filled.append((keys, values))
        if number + 1 == len(decoder.layers):
            query, hidden = query[:, -1:], hidden.view(batch, count, -1)[:, -1]
        if first:
            keys = torch.cat((first_keys.expand(batch, -1, -1, -1), keys), dim=1)
            values = torch.cat((first_values.expand(batch, -1, -1, -1), values), dim=1)
        seen = attend(query, keys, values).flatten(0, 1)
        hidden, rows = _advance(decoder, number, hidden, seen)
    return decoder.head(rows), filled


def read_tokens(
    decoder: Decoder, tokens: Tensor, lengths: Tensor, cache: Sequence[KeysValues], *, reach: int
) -> Tensor:
    """The next token of each of the first s slots, [s] → logits [s, v].

    Its keys and values are written at position `lengths` [s], the first that is not filled, of the cache's
    [slots, t, g, d]. No length is `reach` or more.
    """
    rotate = decoder.operations.rotation(decoder.cos_td, decoder.sin_td, lengths)
    attend = slot_attention(lengths, reach=reach, fused=decoder.fused)
    hidden = embedding(tokens, decoder.embedding_ve)
    rows = decoder.operations.norm(hidden, decoder.layers[0].attention_norm_e)
    for number, (layer, (keys, values)) in enumerate(zip(decoder.layers, cache, strict=True)):
        query, _, _ = rotate(layer.qkv(rows), (keys, values))
        hidden, rows = _advance(decoder, number, hidden, attend(query, keys, values))
    return decoder.head(rows)


def _advance(decoder: Decoder, number: int, hidden: Tensor, seen: Tensor) -> tuple[Tensor, Rows]:
    """What a layer does with what its attention saw, [m, h, d]: its output, and that normed for the next."""
    operations, layer = decoder.operations, decoder.layers[number]
    attended = layer.out(operations.rows(seen.flatten(-2)))
    hidden, rows = operations.add_norm(hidden, attended, layer.mlp_norm_e)
    delta = layer.down(operations.gate(layer.gate_up(rows)))
    if number + 1 < len(decoder.layers):
        return operations.add_norm(hidden, delta, decoder.layers[number + 1].attention_norm_e)
    return hidden, operations.last_norm(hidden, delta, decoder.norm_e)


def _operations(config: Any, *, fused: bool, float8: bool) -> Operations:
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if fused:
        return fused_operations(epsilon=config.rms_norm_eps, heads=heads, groups=groups, scaled=float8)
    return plain_operations(epsilon=config.rms_norm_eps, heads=heads, groups=groups)


def _layer(layer: Any, *, float8: bool) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        attention_norm_e=layer.input_layernorm.weight.detach(),
        qkv=fused([attention.q_proj, attention.k_proj, attention.v_proj], float8=float8),
        out=fused([attention.o_proj], float8=float8),
        mlp_norm_e=layer.post_attention_layernorm.weight.detach(),
        gate_up=fused([mlp.gate_proj, mlp.up_proj], float8=float8),
        down=fused([mlp.down_proj], float8=float8),
    )
