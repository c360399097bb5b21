"""queries + keys + values → attention, over a prompt and over a cache of slots

On a GPU in half precision prompts go through SDPA, by cuDNN's kernel where there is one, and slots through a
kernel of this project that reads of each only what is filled; elsewhere both go through SDPA or products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

# b prompts, q queries, p keys of a prompt, s slots, t positions of a slot, h heads, g key-value heads,
# d width of a head, n = s * g

_CACHE_LINE = 16  # float32 numbers: so that each row of a head's keys begins a line
_QUERY_ROWS = 4  # at once: MKL multiplies four with a slot's keys in less time than one or three

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


_FASTEST_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


WIDTHS = (16, 32, 64, 128)  # of a head, that the kernel over slots takes


def has_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this project's kernels can run: a GPU since Ampere, half precision."""
    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def empty_cache(
    slots: int, positions: int, *, groups: int, width: int, like: Tensor, fused: bool
) -> tuple[Tensor, Tensor]:
    """Keys and values of zeros, [slots, t, g, d] each, in memory as `slot_attention` reads them fastest."""
    if fused:
        shape = (slots, groups, positions, width)  # what one head of a slot reads lies in one piece
        return like.new_zeros(shape).transpose(1, 2), like.new_zeros(shape).transpose(1, 2)
    # A product of a few queries reads both row by row: keys along the positions, values along a head's width.
    keys_sgdt = like.new_zeros(slots, groups, width, kept_positions(positions, fused=fused))
    values_sgtd = like.new_zeros(slots, groups, positions, width)
    return keys_sgdt[..., :positions].permute(0, 3, 1, 2), values_sgtd.transpose(1, 2)


def kept_positions(positions: int, *, fused: bool) -> int:
    """How many positions of keys an `empty_cache` has memory for."""
    return positions if fused else _rounded_up(positions, to=_CACHE_LINE)


def prompt_attention(*, fused: bool) -> Attend:
    """Causal attention [b, q, h, d], [b, p, g, d], [b, p, g, d] → [b, q, h, d].

    The queries are the last q of the p positions.
    """
    return _fastest_over_prompt if fused else _sdpa_over_prompt


def slot_attention(lengths: Tensor, *, reach: int, fused: bool) -> Attend:
    """Attention of one query a slot, [s, h, d], over an `empty_cache` since filled → [s, h, d].

    Slot i of the first s sees its positions 0 … lengths[i], but none from `reach` on. The result serves every
    layer of one step.
    """
    if not fused:
        return _products_over_slots(lengths, reach=reach)
    from recap_spark.models.kernels.slot_attention import attend_slots

    return lambda query, keys, values: attend_slots(query, keys, values, lengths)


def _products_over_slots(lengths: Tensor, *, reach: int) -> Attend:
    # Two batched products and a softmax: SDPA's kernel for the CPU takes twice as long over a few queries.
    rows = lengths.shape[0]
    places = torch.arange(reach, device=lengths.device)
    unseen_s1t = torch.zeros(rows, 1, reach, device=lengths.device)
    unseen_s1t.masked_fill_(places > lengths[:, None, None], float("-inf"))

    def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        groups, width = keys.shape[2:]
        # The queries that share a key go together: no key is copied for them.
        query_nqd = (query * width**-0.5).reshape(rows * groups, -1, width)
        count = query_nqd.shape[1]
        if query.device.type == "cpu" and count % _QUERY_ROWS:
            query_nqd = pad(query_nqd, (0, 0, 0, _rounded_up(count, to=_QUERY_ROWS) - count))
        keys_ndt = keys.permute(0, 2, 3, 1)[:rows].flatten(0, 1)[..., :reach]
        values_ntd = values.transpose(1, 2)[:rows].flatten(0, 1)[:, :reach]
        scores_nqt = torch.bmm(query_nqd, keys_ndt)
        scores_nqt.view(rows, -1, reach).add_(unseen_s1t)
        seen_nqd = torch.bmm(scores_nqt.softmax(dim=-1), values_ntd)
        return seen_nqd[:, :count].reshape(rows, -1, width)

    return attend


def _sdpa_over_prompt(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    count, positions = query.shape[1], keys.shape[1]
    mask_qp = None
    if 1 < count < positions:
        mask_qp = torch.ones(count, positions, dtype=torch.bool, device=query.device).tril(positions - count)
    seen_bhqd = scaled_dot_product_attention(
        query.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask_qp,
        is_causal=count == positions,
        enable_gqa=True,
    )
    return seen_bhqd.transpose(1, 2)


def _fastest_over_prompt(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    count, positions = query.shape[1], keys.shape[1]
    assert count in (1, positions), "a prompt is read whole; its last layer asks for one query"
    with sdpa_kernel(_FASTEST_FIRST, set_priority=True):
        seen_bhqd = scaled_dot_product_attention(
            query.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            is_causal=count == positions,
            enable_gqa=True,
        )
    return seen_bhqd.transpose(1, 2)


def _rounded_up(count: int, *, to: int) -> int:
    """The least multiple that is no less."""
    return -(-count // to) * to
