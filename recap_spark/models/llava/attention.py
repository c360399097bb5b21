"""queries + keys + values → attention, over a prompt and over a cache of slots

On a GPU in half precision through torch's variable-length flash attention, which takes grouped queries
without copying keys for them and reads of each slot only what is filled; elsewhere through SDPA or products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad, scaled_dot_product_attention

# b prompts, q queries, p keys of a prompt, s slots, t positions of a slot, h heads, g key-value heads,
# d width of a head, n = s * g

_CACHE_LINE = 16  # float32 numbers: so that each row of a head's keys begins a line
_QUERY_ROWS = 4  # at once: MKL multiplies four with a slot's keys in less time than one or three

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def has_flash_attention(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether variable-length flash attention can run: a GPU since Ampere, half precision."""
    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def empty_cache(
    slots: int, positions: int, *, groups: int, width: int, like: Tensor, flash: bool
) -> tuple[Tensor, Tensor]:
    """Keys and values of zeros, [slots, t, g, d] each, in memory as `slot_attention` reads them fastest."""
    if flash:
        shape = (slots, positions, groups, width)
        return like.new_zeros(shape), like.new_zeros(shape)
    # A product of a few queries reads both row by row: keys along the positions, values along a head's width.
    keys_sgdt = like.new_zeros(slots, groups, width, kept_positions(positions, flash=flash))
    values_sgtd = like.new_zeros(slots, groups, positions, width)
    return keys_sgdt[..., :positions].permute(0, 3, 1, 2), values_sgtd.transpose(1, 2)


def kept_positions(positions: int, *, flash: bool) -> int:
    """How many positions of keys an `empty_cache` has memory for."""
    return positions if flash else _rounded_up(positions, to=_CACHE_LINE)


def prompt_attention(*, flash: bool) -> Attend:
    """Causal attention [b, q, h, d], [b, p, g, d], [b, p, g, d] → [b, q, h, d].

    The queries are the last q of the p positions.
    """
    return _flash_over_prompt if flash else _sdpa_over_prompt


def slot_attention(lengths: Tensor, *, reach: int, positions: int, flash: bool) -> Attend:
    """Attention of one query a slot, [s, h, d], over an `empty_cache` since filled → [s, h, d].

    Slot i of the first s sees its positions 0 … lengths[i], but none from `reach` on. The result serves every
    layer of one step.
    """
    rows = lengths.shape[0]
    if not flash:
        return _products_over_slots(lengths, reach=reach)
    starts_q = torch.arange(rows + 1, dtype=torch.int32, device=lengths.device)
    starts_k = starts_q * positions
    filled = (lengths + 1).int()

    def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        some_k, some_v = keys[:rows].flatten(0, 1), values[:rows].flatten(0, 1)
        seen = varlen_attn(
            query, some_k, some_v, starts_q, starts_k, 1, positions, enable_gqa=True, seqused_k=filled
        )
        assert isinstance(seen, Tensor)  # a pair only where the log-sum-exp is asked for
        return seen

    return attend


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


def _flash_over_prompt(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    batch, count, positions = query.shape[0], query.shape[1], keys.shape[1]
    steps = torch.arange(batch + 1, dtype=torch.int32, device=query.device)
    # Flash attention's causal window ends with the last query at the last key.
    seen = varlen_attn(
        query.flatten(0, 1),
        keys.flatten(0, 1),
        values.flatten(0, 1),
        steps * count,
        steps * positions,
        count,
        positions,
        window_size=(-1, 0),
        enable_gqa=True,
    )
    assert isinstance(seen, Tensor)
    return seen.view_as(query)


def _rounded_up(count: int, *, to: int) -> int:
    """The least multiple that is no less."""
    return -(-count // to) * to
