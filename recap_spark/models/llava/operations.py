"""What a decoder does between its products, in plain torch or by one kernel for each step

Plain operations run anywhere. The fused ones want a GPU in half precision, and can hand rows on to a product
in float8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

# m rows, k columns, h heads, g key-value heads, d width of a head, s slots, t positions of a slot


class Scaled(NamedTuple):
    """Rows in float8, and the scales that they are to be multiplied by."""

    values_mk: Tensor
    scale_m1: Tensor


Rows = Tensor | Scaled
"""What a product takes: [m, k] as the model has it, or scaled to float8."""
KeysValues = tuple[Tensor, Tensor]
Rotate = Callable[[Tensor, KeysValues | None], tuple[Tensor, Tensor, Tensor]]
"""[m, (h + g + g) * d] → queries [m, h, d], keys and values [m, g, d], the first two turned.

With a cache, row i's keys and values are also written into slot i at the row's position."""


@dataclass(frozen=True)
class Operations:
    """One way to compute each step."""

    norm: Callable[[Tensor, Tensor], Rows]  # rows, weight
    add_norm: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Rows]]  # rows, added to them, weight
    last_norm: Callable[[Tensor, Tensor, Tensor], Tensor]  # the same, for the product with the vocabulary
    gate: Callable[[Tensor], Rows]  # [m, 2 * k] → [m, k]
    rows: Callable[[Tensor], Rows]  # attention's output, for the product that follows
    rotation: Callable[[Tensor, Tensor, Tensor], Rotate]  # cosines, sines, the rows' positions


def plain_operations(*, epsilon: float, heads: int, groups: int) -> Operations:
    """By torch's own kernels, on any device."""

    def norm(hidden: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(hidden, (hidden.shape[-1],), weight, epsilon)

    def add_norm(hidden: Tensor, delta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = delta.add_(hidden)
        return total, norm(total, weight)

    def gate(gate_up: Tensor) -> Tensor:
        one, other = gate_up.chunk(2, dim=-1)
        return silu(one).mul_(other)

    return Operations(
        norm=norm,
        add_norm=add_norm,
        last_norm=lambda hidden, delta, weight: add_norm(hidden, delta, weight)[1],
        gate=gate,
        rows=lambda seen: seen,
        rotation=partial(_plain_rotation, heads=heads, groups=groups),
    )


def fused_operations(*, epsilon: float, heads: int, groups: int, scaled: bool) -> Operations:
    """By kernels of this project, on a GPU; with `scaled` rows go to the products in float8."""
    from recap_spark.models.kernels.rows import add_norm, gated_silu, scaled_rows

    def as_rows(values: Tensor, scale: Tensor | None) -> Rows:
        return values if scale is None else Scaled(values, scale)

    def norm(hidden: Tensor, weight: Tensor) -> Rows:
        return as_rows(*add_norm(hidden, None, weight, epsilon, scaled=scaled)[1:])

    def added(hidden: Tensor, delta: Tensor, weight: Tensor) -> tuple[Tensor, Rows]:
        total, values, scale = add_norm(hidden, delta, weight, epsilon, scaled=scaled)
        return total, as_rows(values, scale)

    return Operations(
        norm=norm,
        add_norm=added,
        last_norm=lambda hidden, delta, weight: add_norm(hidden, delta, weight, epsilon, scaled=False)[1],
        gate=lambda gate_up: as_rows(*gated_silu(gate_up, scaled=scaled)),
        rows=lambda seen: Scaled(*scaled_rows(seen)) if scaled else seen,
        rotation=partial(_fused_rotation, heads=heads, groups=groups),
    )


def _plain_rotation(cos_td: Tensor, sin_td: Tensor, places_m: Tensor, *, heads: int, groups: int) -> Rotate:
    cos, sin = cos_td[places_m].unsqueeze(-2), sin_td[places_m].unsqueeze(-2)
    width = cos_td.shape[1]
    half = width // 2

    def rotate(qkv: Tensor, cache: KeysValues | None) -> tuple[Tensor, Tensor, Tensor]:
        parts = qkv.view(len(qkv), -1, width)
        straight = parts[:, :-groups]
        turned = straight * cos
        turned[..., :half].addcmul_(straight[..., half:], sin, value=-1)
        turned[..., half:].addcmul_(straight[..., :half], sin)
        query, key, value = turned[:, :heads], turned[:, heads:], parts[:, -groups:]
        if cache:
            place = torch.arange(len(places_m), device=places_m.device), places_m
            cache[0].index_put_(place, key)
            cache[1].index_put_(place, value)
        return query, key, value

    return rotate


def _fused_rotation(cos_td: Tensor, sin_td: Tensor, places_m: Tensor, *, heads: int, groups: int) -> Rotate:
    from recap_spark.models.kernels.rotation import rotate_and_store

    def rotate(qkv: Tensor, cache: KeysValues | None) -> tuple[Tensor, Tensor, Tensor]:
        rotate_and_store(qkv, cos_td, sin_td, places_m, heads=heads, groups=groups, cache=cache)
        parts = qkv.view(len(qkv), -1, cos_td.shape[1])
        return parts[:, :heads], parts[:, heads : heads + groups], parts[:, -groups:]

    return rotate
