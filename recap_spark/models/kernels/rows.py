"""Work on the rows of a matrix between two products, a Triton kernel each: norms, gates, scales to float8

Each reads its row once and writes it once: apart, torch's kernels read and write it five to eight times. With
`scaled` a row comes out as float8 and one float32 scale (the recipe of FP8_DYNAMIC checkpoints).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST = tl.constexpr(448.0)  # of float8 e4m3fn
_SMALLEST = tl.constexpr(1e-12)  # of a scale: a row of zeros has one too
_AT_ONCE = 2048  # columns, where no scale has to know the whole row

# m rows, k columns


def add_norm(
    hidden_mk: Tensor, delta_mk: Tensor | None, weight_k: Tensor, epsilon: float, *, scaled: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """hidden + delta, its RMS norm times the weight, and the norm's scales [m, 1] where it is `scaled`.

    The sum is rounded to the type of hidden before its norm is taken, as in transformers' LlamaRMSNorm.
    """
    rows, width = hidden_mk.shape
    total_mk = hidden_mk if delta_mk is None else torch.empty_like(delta_mk)
    normed_mk, scale_m1 = _outputs(hidden_mk, width, scaled=scaled)
    _add_norm[(rows,)](
        hidden_mk,
        delta_mk,
        weight_k,
        total_mk,
        normed_mk,
        scale_m1,
        hidden_mk.stride(0),
        width,
        epsilon,
        ADDS=delta_mk is not None,
        SCALED=scaled,
        BLOCK=triton.next_power_of_2(width),
        num_warps=8,
    )
    return total_mk, normed_mk, scale_m1


def gated_silu(gate_up_mk: Tensor, *, scaled: bool) -> tuple[Tensor, Tensor | None]:
    """silu of a row's first half times its second half, [m, 2 * k] → [m, k], and its scales [m, 1]."""
    rows, width = gate_up_mk.shape[0], gate_up_mk.shape[1] // 2
    gated_mk, scale_m1 = _outputs(gate_up_mk, width, scaled=scaled)
    block = triton.next_power_of_2(width) if scaled else min(_AT_ONCE, triton.next_power_of_2(width))
    _gated_silu[(rows, triton.cdiv(width, block))](
        gate_up_mk,
        gated_mk,
        scale_m1,
        width,
        SCALED=scaled,
        BLOCK=block,
        num_warps=8,
    )
    return gated_mk, scale_m1


def quick_gelu_(inner: Tensor) -> Tensor:
    """x * sigmoid(1.702 * x) in place, CLIP's activation (openai/CLIP, model.py `QuickGELU`)."""
    assert inner.is_contiguous()
    count = inner.numel()
    _quick_gelu[(triton.cdiv(count, _AT_ONCE),)](inner, count, BLOCK=_AT_ONCE, num_warps=8)
    return inner


def scaled_rows(rows_mk: Tensor) -> tuple[Tensor, Tensor]:
    """Rows → float8 [m, k] and float32 [m, 1], whose product they are: each row spans float8's range."""
    rows, width = rows_mk.shape
    scaled_mk, scale_m1 = _outputs(rows_mk, width, scaled=True)
    assert scale_m1 is not None
    _scaled[(rows,)](rows_mk, scaled_mk, scale_m1, width, BLOCK=triton.next_power_of_2(width), num_warps=8)
    return scaled_mk, scale_m1


def _outputs(like: Tensor, width: int, *, scaled: bool) -> tuple[Tensor, Tensor | None]:
    kind = torch.float8_e4m3fn if scaled else like.dtype
    values = torch.empty(like.shape[0], width, dtype=kind, device=like.device)
    scale = torch.empty(like.shape[0], 1, dtype=torch.float32, device=like.device) if scaled else None
    return values, scale


@triton.jit
def _write(values, out, scale, row, places, inside, width, SCALED: tl.constexpr):
    if SCALED:
        largest = tl.max(tl.abs(values), axis=0)
        factor = tl.maximum(largest / LARGEST, _SMALLEST)
        tl.store(scale + row, factor)
        values = values / factor
    tl.store(out + row.to(tl.int64) * width + places, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm(
    hidden,
    delta,
    weight,
    total,
    out,
    scale,
    stride,
    width,
    epsilon,
    ADDS: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, places = tl.program_id(0), tl.arange(0, BLOCK)
    inside = places < width
    values = tl.load(hidden + row.to(tl.int64) * stride + places, mask=inside, other=0.0)
    if ADDS:
        added = tl.load(delta + row.to(tl.int64) * width + places, mask=inside, other=0.0)
        values = (values.to(tl.float32) + added.to(tl.float32)).to(values.dtype)
        tl.store(total + row.to(tl.int64) * width + places, values, mask=inside)
    exact = values.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(exact * exact, axis=0) / width + epsilon)
    # Rounded before the weight, as transformers does.
    normed = (exact * inverse).to(values.dtype)
    gains = tl.load(weight + places, mask=inside, other=0.0)
    _write((normed * gains).to(tl.float32), out, scale, row, places, inside, width, SCALED)


@triton.jit
def _gated_silu(gate_up, out, scale, width, SCALED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = places < width
    begin = gate_up + row.to(tl.int64) * 2 * width
    gate = tl.load(begin + places, mask=inside, other=0.0)
    up = tl.load(begin + width + places, mask=inside, other=0.0)
    exact = gate.to(tl.float32)
    opened = (exact * tl.sigmoid(exact)).to(gate.dtype)
    _write((opened * up).to(tl.float32), out, scale, row, places, inside, width, SCALED)


@triton.jit
def _quick_gelu(values, count, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    exact = tl.load(values + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(values + places, (exact * tl.sigmoid(1.702 * exact)).to(values.dtype.element_ty), mask=inside)


@triton.jit
def _scaled(rows, out, scale, width, BLOCK: tl.constexpr):
    row, places = tl.program_id(0), tl.arange(0, BLOCK)
    inside = places < width
    values = tl.load(rows + row.to(tl.int64) * width + places, mask=inside, other=0.0)
    _write(values.to(tl.float32), out, scale, row, places, inside, width, True)
