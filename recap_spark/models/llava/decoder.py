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
from torch.nn.functional import embedding, rms_norm, silu

from recap_spark.errors import WeightsError
from recap_spark.models.llava.attention import has_flash_attention, prompt_attention, slot_attention
from recap_spark.models.llava.float8 import require_float8
from recap_spark.models.llava.linears import Linear, fused

# b prompts, q new positions, s slots, t positions of a slot, h heads, g key-value heads, d width of a head,
# e embedding

KeysValues = tuple[Tensor, Tensor]


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
    epsilon: float
    flash: bool

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
    with torch.no_grad():
        cos, sin = llama.rotary_emb(weight[:1, :1], torch.arange(positions, device=weight.device)[None])
        return Decoder(
            layers=[_layer(layer, float8=float8) for layer in llama.layers],
            embedding_ve=weight.detach(),
            norm_e=llama.norm.weight.detach(),
            head=fused([model.lm_head], float8=False),
            cos_td=cos[0],
            sin_td=sin[0, :, : sin.shape[-1] // 2],
            heads=config.num_attention_heads,
            groups=config.num_key_value_heads,
            epsilon=config.rms_norm_eps,
            flash=has_flash_attention(weight.device, weight.dtype),
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
    decoder: Decoder, embeds: Tensor, beginning: list[KeysValues]
) -> tuple[Tensor, list[KeysValues]]:
    """Embeddings [b, q, e] after a shared beginning → logits of the last position [b, v], and keys and values
    [b, q, g, d] of every layer for the cache.
    """
    batch, count, _ = embeds.shape
    first = beginning[0][0].shape[1]
    turn = _turn(decoder, slice(first, first + count))
    attend = prompt_attention(flash=decoder.flash)
    hidden, filled = embeds, []
    for layer, (first_keys, first_values) in zip(decoder.layers, beginning, strict=True):
        query, keys, values = _project(decoder, layer, hidden, turn)
        filled.append((keys, values))
        if len(filled) == len(decoder.layers):
            query, hidden = query[:, -1:], hidden[:, -1:]
        if first:
            keys = torch.cat((first_keys.expand(batch, -1, -1, -1), keys), dim=1)
            values = torch.cat((first_values.expand(batch, -1, -1, -1), values), dim=1)
        hidden = _advance(decoder, layer, hidden, attend(query, keys, values))
    return _logits(decoder, hidden[:, -1]), filled


def read_tokens(
    decoder: Decoder, tokens: Tensor, lengths: Tensor, cache: Sequence[KeysValues], *, reach: int
) -> Tensor:
    """The next token of each of the first s slots, [s] → logits [s, v].

    Its keys and values are written at position `lengths` [s], the first that is not filled, of the cache's
    [slots, t, g, d]. No length is `reach` or more.
    """
    turn = _turn(decoder, lengths)
    place = torch.arange(tokens.shape[0], device=lengths.device), lengths
    attend = slot_attention(lengths, reach=reach, positions=cache[0][0].shape[1], flash=decoder.flash)
    hidden = embedding(tokens, decoder.embedding_ve)
    for layer, (keys, values) in zip(decoder.layers, cache, strict=True):
        query, key, value = _project(decoder, layer, hidden, turn)
        keys.index_put_(place, key)
        values.index_put_(place, value)
        hidden = _advance(decoder, layer, hidden, attend(query, keys, values))
    return _logits(decoder, hidden)


def _turn(decoder: Decoder, places: slice | Tensor) -> tuple[Tensor, Tensor]:
    """Rotary embeddings' cosines and sines, [..., 1, d] and [..., 1, d / 2]."""
    return decoder.cos_td[places].unsqueeze(-2), decoder.sin_td[places].unsqueeze(-2)


def _project(
    decoder: Decoder, layer: Layer, hidden: Tensor, turn: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [..., e] → query [..., h, d], key and value [..., g, d], query and key turned."""
    cos, sin = turn
    qkv = layer.qkv(_normed(decoder, hidden, layer.attention_norm_e))
    qkv = qkv.view(*qkv.shape[:-1], -1, decoder.width)
    straight, half = qkv[..., : -decoder.groups, :], decoder.width // 2
    turned = straight * cos
    turned[..., :half].addcmul_(straight[..., half:], sin, value=-1)
    turned[..., half:].addcmul_(straight[..., :half], sin)
    return turned[..., : decoder.heads, :], turned[..., decoder.heads :, :], qkv[..., -decoder.groups :, :]


def _advance(decoder: Decoder, layer: Layer, hidden: Tensor, seen: Tensor) -> Tensor:
    hidden = layer.out(seen.flatten(-2)).add_(hidden)
    gate, up = layer.gate_up(_normed(decoder, hidden, layer.mlp_norm_e)).chunk(2, dim=-1)
    return layer.down(silu(gate).mul_(up)).add_(hidden)


def _normed(decoder: Decoder, hidden: Tensor, weight: Tensor) -> Tensor:
    return rms_norm(hidden, (hidden.shape[-1],), weight, decoder.epsilon)


def _logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    return decoder.head(_normed(decoder, hidden, decoder.norm_e))


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
