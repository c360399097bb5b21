"""pixels → the decoder's view of them: CLIP's tower up to the layer LLaVA reads, then the projector"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from transformers.activations import QuickGELUActivation

from recap_spark.errors import WeightsError
from recap_spark.models.llava.attention import has_kernels
from recap_spark.models.llava.linears import Linear, fused

# b images, n patches, c the tower's embedding, h heads, d width of a head, e the decoder's embedding

_QUICK = 1.702  # of quick_gelu: openai/CLIP, model.py `QuickGELU`


def check_vision(model: Any) -> None:
    """Raise WeightsError unless the model reads one layer of a CLIP tower, as LLaVA-1.5 does."""
    config = model.config
    if config.vision_config.model_type != "clip_vision_model" or not isinstance(
        config.vision_feature_layer, int
    ):
        raise WeightsError(
            "engine slots: want one layer of a CLIP vision tower, found "
            f"{config.vision_feature_layer} of {config.vision_config.model_type}: engine generate takes any"
        )


@dataclass(frozen=True)
class VisionLayer:
    """One layer of the tower."""

    attention_norm: Callable[[Tensor], Tensor]
    qkv: Linear  # c → 3 * h * d
    out: Linear
    mlp_norm: Callable[[Tensor], Tensor]
    mlp: Linear


@dataclass(frozen=True)
class Vision:
    """CLIP's tower and LLaVA's projector, their weights shared with the model they came from."""

    embed: Callable[[Tensor], Tensor]  # pixels → [b, n, c], CLS first
    layers: Sequence[VisionLayer]  # up to the one that is read
    heads: int
    skipped: int  # of the first positions: CLS
    project: Callable[[Tensor], Tensor]
    dtype: torch.dtype


def read_vision(model: Any) -> Vision:
    """The tower up to the layer that is read (-2 in LLaVA-1.5, section 3.2 of its paper), and the projector.

    Queries, keys and values become one product; the model's own linears are views of it. Raises WeightsError
    where the model does not read one layer of a CLIP tower.
    """
    check_vision(model)
    tower, config = model.model.vision_tower, model.config
    layers, read = tower.encoder.layers, config.vision_feature_layer
    count = read if read >= 0 else len(layers) + 1 + read
    with torch.no_grad():
        return Vision(
            embed=lambda pixels: tower.pre_layrnorm(tower.embeddings(pixels)),
            layers=[_layer(layer) for layer in layers[:count]],
            heads=config.vision_config.num_attention_heads,
            skipped=int(config.vision_feature_select_strategy == "default"),
            project=model.model.multi_modal_projector,
            dtype=tower.dtype,
        )


def image_embeds(vision: Vision, pixels: Tensor) -> Tensor:
    """Normalised pixels [b, 3, S, S] → [b, n, e]."""
    hidden = vision.embed(pixels.to(vision.dtype))
    for layer in vision.layers:
        qkv = layer.qkv(layer.attention_norm(hidden))
        query, keys, values = qkv.view(*hidden.shape[:2], 3, vision.heads, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(query, keys, values).transpose(1, 2)
        hidden = layer.out(seen.flatten(-2)).add_(hidden)
        hidden = layer.mlp(layer.mlp_norm(hidden)).add_(hidden)
    return vision.project(hidden[:, vision.skipped :])


def _layer(layer: Any) -> VisionLayer:
    attention, mlp = layer.self_attn, layer.mlp
    quick = isinstance(mlp.activation_fn, QuickGELUActivation)
    return VisionLayer(
        attention_norm=layer.layer_norm1,
        qkv=fused([attention.q_proj, attention.k_proj, attention.v_proj], float8=False),
        out=fused([attention.out_proj], float8=False),
        mlp_norm=layer.layer_norm2,
        mlp=partial(_mlp_of(mlp.fc1.weight), mlp.fc1, mlp.fc2) if quick else mlp,
    )


def _mlp_of(weight: Tensor) -> Callable[[nn.Linear, nn.Linear, Tensor], Tensor]:
    return _fused_mlp if has_kernels(weight.device, weight.dtype) else _quick_gelu_mlp


def _fused_mlp(up: nn.Linear, down: nn.Linear, hidden: Tensor) -> Tensor:
    from recap_spark.models.kernels.rows import quick_gelu_

    return linear(quick_gelu_(linear(hidden, up.weight, up.bias)), down.weight, down.bias)


def _quick_gelu_mlp(up: nn.Linear, down: nn.Linear, hidden: Tensor) -> Tensor:
    # x * sigmoid(a * x) is silu(a * x) / a; the products multiply by a and 1 / a in the same pass.
    rows = hidden.flatten(0, -2)
    inner = torch.addmm(up.bias, rows, up.weight.t(), beta=_QUICK, alpha=_QUICK)
    outer = torch.addmm(down.bias, silu(inner, inplace=True), down.weight.t(), alpha=1 / _QUICK)
    return outer.view_as(hidden)


def split_prompt(model: Any, prompt: list[int]) -> tuple[Tensor, Tensor]:
    """A prompt's tokens before and after its one image.

    Raises WeightsError where the image's tokens are not one run.
    """
    image = model.config.image_token_id
    count = prompt.count(image)
    first = prompt.index(image) if count else 0
    if not count or prompt[first : first + count] != [image] * count:
        raise WeightsError(f"prompt: want one run of image tokens {image}, found {count} of them apart")
    device = model.device
    return (
        torch.tensor(prompt[:first], dtype=torch.long, device=device),
        torch.tensor(prompt[first + count :], dtype=torch.long, device=device),
    )
