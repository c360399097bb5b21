"""Attention over a cache of slots is attention over what each slot holds, however heads are grouped."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from recap_spark.models.llava.attention import empty_cache, slot_attention

SLOTS, WIDTH = 6, 8


@pytest.mark.parametrize("queries", [1, 2, 3, 4, 5, 8])  # that share a key-value head
@pytest.mark.parametrize(("positions", "reach"), [(16, 16), (21, 21), (33, 19)])
def test_each_slot_sees_what_it_holds_and_no_more(queries, positions, reach):
    torch.manual_seed(queries)
    groups, rows = 2, SLOTS - 2
    like = torch.empty(0)
    keys, values = empty_cache(SLOTS, positions, groups=groups, width=WIDTH, like=like, fused=False)
    for cached in (keys, values):
        cached.copy_(torch.randn(SLOTS, positions, groups, WIDTH))
    lengths = torch.randint(0, reach, (rows,))
    query = torch.randn(rows, groups * queries, WIDTH)

    attend = slot_attention(lengths, reach=reach, fused=False)
    seen = attend(query, keys, values)

    for slot, length in enumerate(lengths.tolist()):
        held_k, held_v = (cached[slot, : length + 1].transpose(0, 1) for cached in (keys, values))
        alone = scaled_dot_product_attention(query[slot, :, None], held_k, held_v, enable_gqa=True)
        torch.testing.assert_close(seen[slot], alone[:, 0])
