"""One query a slot over its cached keys and values, by a Triton kernel that reads only what is filled

The queries that share a key-value head are the rows of one product, so that each key is read once for all of
them (grouped-query attention, arXiv 2305.13245); the softmax goes along with the reading (FlashAttention,
arXiv 2205.14135). What bounds it is memory: its arithmetic takes a tenth of the time of its reads.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST_ROWS = 16  # of a product on tensor cores
_POSITIONS_AT_ONCE = 64
_LOG2_E = 1.4426950408889634

# s slots, t positions of a slot, h heads, g key-value heads, d width of a head


def attend_slots(query_shd: Tensor, keys_stgd: Tensor, values_stgd: Tensor, lengths_s: Tensor) -> Tensor:
    """[s, h, d] over the first s slots of [slots, t, g, d] → [s, h, d]; slot i sees positions 0 … lengths[i].

    Keys and values are laid out alike, each head's width without gaps.
    """
    slots, heads, width = query_shd.shape
    groups = keys_stgd.shape[2]
    seen_shd = torch.empty(slots, heads, width, dtype=query_shd.dtype, device=query_shd.device)
    _attend[(slots, groups)](
        query_shd,
        keys_stgd,
        values_stgd,
        lengths_s,
        seen_shd,
        query_shd.stride(0),
        keys_stgd.stride(0),
        keys_stgd.stride(1),
        keys_stgd.stride(2),
        width**-0.5 * _LOG2_E,
        HEADS=heads,
        QUERIES=heads // groups,
        ROWS=max(_LEAST_ROWS, triton.next_power_of_2(heads // groups)),
        WIDTH=width,
        BLOCK=_POSITIONS_AT_ONCE,
        num_warps=4,
        num_stages=3,
    )
    return seen_shd


@triton.jit
def _attend(
    query,
    keys,
    values,
    lengths,
    seen,
    query_stride,
    slot_stride,
    position_stride,
    group_stride,
    scale,
    HEADS: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    slot, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, dims, steps = tl.arange(0, ROWS), tl.arange(0, WIDTH), tl.arange(0, BLOCK)
    head = (group * QUERIES + rows)[:, None] * WIDTH + dims[None, :]
    wanted = (rows < QUERIES)[:, None]
    asked = tl.load(query + slot * query_stride + head, mask=wanted, other=0.0)
    filled = tl.load(lengths + slot) + 1
    begin = slot * slot_stride + group * group_stride
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    weight = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(0, filled, BLOCK):
        places = first + steps
        inside = places < filled
        at = begin + places[:, None] * position_stride + dims[None, :]
        some_keys = tl.load(keys + at, mask=inside[:, None], other=0.0)
        scores = tl.dot(asked, tl.trans(some_keys)) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        shares = tl.exp2(scores - higher[:, None])
        kept = tl.exp2(highest - higher)
        weight = weight * kept + tl.sum(shares, axis=1)
        some_values = tl.load(values + at, mask=inside[:, None], other=0.0)
        total = total * kept[:, None] + tl.dot(shares.to(some_values.dtype), some_values)
        highest = higher
    total = total / weight[:, None]
    tl.store(seen + slot * HEADS * WIDTH + head, total.to(seen.dtype.element_ty), mask=wanted)
