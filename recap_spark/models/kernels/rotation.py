"""Rotary embeddings in place, and new keys and values into the cache of slots, by one Triton kernel"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_HEADS_AT_ONCE = 8

# m rows, h heads, g key-value heads, d width of a head, s slots, t positions of a slot


def rotate_and_store(
    qkv_mc: Tensor,
    cos_td: Tensor,
    sin_td: Tensor,
    places_m: Tensor,
    *,
    heads: int,
    groups: int,
    cache: tuple[Tensor, Tensor] | None,
) -> None:
    """Turn the queries and keys of [m, (h + g + g) * d] in place, by the angles of each row's position.

    `cos_td` is of the whole width, `sin_td` of half of it. With a cache of [s, t, g, d], keys and values of
    row i are also written into slot i at its position; both halves of it are laid out alike.
    """
    assert cos_td.is_contiguous()
    assert sin_td.is_contiguous()
    rows, width = qkv_mc.shape[0], cos_td.shape[1]
    keys, values = cache if cache else (qkv_mc, qkv_mc)
    strides = (keys.stride(0), keys.stride(1), keys.stride(2)) if cache else (0, 0, 0)
    _rotate[(rows, triton.cdiv(heads + 2 * groups, _HEADS_AT_ONCE))](
        qkv_mc,
        cos_td,
        sin_td,
        places_m,
        keys,
        values,
        qkv_mc.stride(0),
        *strides,
        HEADS=heads,
        GROUPS=groups,
        HALF=width // 2,
        AT_ONCE=_HEADS_AT_ONCE,
        STORES=cache is not None,
        num_warps=2,
    )


@triton.jit
def _rotate(
    qkv,
    cos,
    sin,
    places,
    keys,
    values,
    row_stride,
    slot_stride,
    position_stride,
    group_stride,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    HALF: tl.constexpr,
    AT_ONCE: tl.constexpr,
    STORES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)
    dims = tl.arange(0, HALF)
    place = tl.load(places + row)
    turned = head < HEADS + GROUPS
    exists = head < HEADS + 2 * GROUPS
    at = qkv + row * row_stride + head[:, None] * (2 * HALF) + dims[None, :]
    one = tl.load(at, mask=exists[:, None], other=0.0)
    two = tl.load(at + HALF, mask=exists[:, None], other=0.0)
    cosine = tl.load(cos + place * (2 * HALF) + dims).to(tl.float32)[None, :]
    sine = tl.load(sin + place * HALF + dims).to(tl.float32)[None, :]
    exact_one, exact_two = one.to(tl.float32), two.to(tl.float32)
    new_one = (exact_one * cosine - exact_two * sine).to(one.dtype)
    new_two = (exact_two * cosine + exact_one * sine).to(one.dtype)
    tl.store(at, new_one, mask=turned[:, None])
    tl.store(at + HALF, new_two, mask=turned[:, None])
    if STORES:
        begin = row * slot_stride + place * position_stride
        is_key = (head >= HEADS) & turned
        key_at = keys + begin + (head - HEADS)[:, None] * group_stride + dims[None, :]
        tl.store(key_at, new_one, mask=is_key[:, None])
        tl.store(key_at + HALF, new_two, mask=is_key[:, None])
        is_value = exists & (head >= HEADS + GROUPS)
        value_at = values + begin + (head - HEADS - GROUPS)[:, None] * group_stride + dims[None, :]
        tl.store(value_at, one, mask=is_value[:, None])
        tl.store(value_at + HALF, two, mask=is_value[:, None])
