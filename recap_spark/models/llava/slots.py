"""Slots: one sequence each, in a cache of fixed size, and how many of them the memory holds"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recap_spark.models.llava.attention import empty_cache, kept_positions
from recap_spark.models.llava.decoder import Decoder, read_tokens
from recap_spark.models.llava.operations import KeysValues

# s slots, t positions of a slot, m new tokens at most

_TAKEN_OF_FREE = (
    0.9  # of a GPU's free memory: the allocator's rounding and the kernels' own buffers need some
)


@dataclass
class Memory:
    """What the engine may hold on its device beside the weights.

    A limit is kept by counting, on any device; without one a GPU's own free memory is the bound.
    """

    device: torch.device
    limit_bytes: int | None
    held_bytes: int = 0

    def free_bytes(self) -> int | None:
        """Bytes for the engine to take; None where nothing bounds it."""
        free = None if self.limit_bytes is None else self.limit_bytes - self.held_bytes
        if self.device.type == "cuda":
            unused, _ = torch.cuda.mem_get_info(self.device)
            # What torch keeps of tensors that are gone can be had again.
            kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            at_hand = int((unused + kept) * _TAKEN_OF_FREE)
            free = at_hand if free is None else min(free, at_hand)
        return free

    def check(self, wanted_bytes: int) -> None:
        """Raise torch.OutOfMemoryError, as CUDA would, if the limit leaves no room for so many more."""
        if self.limit_bytes is not None and self.held_bytes + wanted_bytes > self.limit_bytes:
            left = self.limit_bytes - self.held_bytes
            raise torch.OutOfMemoryError(
                f"want {wanted_bytes} bytes, found {left} of {self.limit_bytes} left"
            )

    def hold(self, wanted_bytes: int) -> None:
        """Count so many bytes as held, or raise torch.OutOfMemoryError."""
        self.check(wanted_bytes)
        self.held_bytes += wanted_bytes

    def release_all(self) -> None:
        """Nothing is held any more; on a GPU other processes may have it."""
        self.held_bytes = 0
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Slots:
    """The sequences being decoded, one row each; tensors only, so that a CUDA graph can replay a step."""

    cache: Sequence[KeysValues]  # of every layer, [s, t, g, d] each
    tokens_s: Tensor  # the last token of each, not yet in the cache
    lengths_s: Tensor  # positions filled
    limits_s: Tensor  # new tokens allowed
    finished_s: Tensor  # bool; a row that nobody uses is finished, and is decoded all the same
    said_sm: Tensor  # new tokens, behind a stop or the limit those of nobody
    prompt_tokens: int

    @property
    def count(self) -> int:
        return self.tokens_s.shape[0]


def slot_bytes(decoder: Decoder, *, positions: int) -> int:
    """Bytes that one slot's keys and values take."""
    one = decoder.groups * decoder.width * decoder.embedding_ve.element_size()
    return len(decoder.layers) * (kept_positions(positions, fused=decoder.fused) + positions) * one


def prefill_bytes(decoder: Decoder, *, positions: int, intermediate: int) -> int:
    """Bytes of reading one prompt, at most: all layers' new keys and values, and the inside of one layer."""
    embedding = decoder.embedding_ve.shape[1]
    queries = (decoder.heads + 2 * decoder.groups) * decoder.width
    inside = positions * (4 * embedding + 2 * queries + 3 * intermediate)
    return slot_bytes(decoder, positions=positions) + inside * decoder.embedding_ve.element_size()


def slots_that_fit(*, most: int, free_bytes: int | None, one_slot_bytes: int, aside_bytes: int) -> int:
    """How many slots to begin with: as many as there is room for, at least one, at most `most`."""
    if free_bytes is None:
        return most
    return max(1, min(most, (free_bytes - aside_bytes) // one_slot_bytes))


def new_slots(
    decoder: Decoder, *, count: int, positions: int, beginning: Sequence[KeysValues], prompt_tokens: int
) -> Slots:
    """Empty slots that already hold what all prompts begin with: no slot ever writes there again."""
    device = decoder.embedding_ve.device

    def begun(first_keys: Tensor, first_values: Tensor) -> KeysValues:
        keys, values = empty_cache(
            count,
            positions,
            groups=decoder.groups,
            width=decoder.width,
            like=decoder.embedding_ve,
            fused=decoder.fused,
        )
        keys[:, : first_keys.shape[1]] = first_keys
        values[:, : first_values.shape[1]] = first_values
        return keys, values

    def numbers(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.long, device=device)

    return Slots(
        cache=[begun(keys, values) for keys, values in beginning],
        tokens_s=numbers(count),
        lengths_s=numbers(count) + prompt_tokens,
        limits_s=numbers(count),
        finished_s=torch.ones(count, dtype=torch.bool, device=device),
        said_sm=numbers(count, positions - prompt_tokens),
        prompt_tokens=prompt_tokens,
    )


def fill(
    slots: Slots, rows: Tensor, filled: Sequence[KeysValues], *, tokens: Tensor, limits: Tensor, stops: Tensor
) -> None:
    """Begin new sequences in `rows`, with their prompts' keys and values and their first new tokens."""
    count = filled[0][0].shape[1]
    place = slice(slots.prompt_tokens - count, slots.prompt_tokens)
    for (keys, values), (new_keys, new_values) in zip(slots.cache, filled, strict=True):
        keys[:, place].index_copy_(0, rows, new_keys)
        values[:, place].index_copy_(0, rows, new_values)
    slots.tokens_s[rows] = tokens
    slots.lengths_s[rows] = slots.prompt_tokens
    slots.limits_s[rows] = limits
    slots.finished_s[rows] = torch.isin(tokens, stops) | (limits <= 1)
    slots.said_sm[rows, 0] = tokens


def move(slots: Slots, moved: dict[int, int]) -> None:
    """Take sequences over into other slots, which are the keys; nobody uses those they leave any more."""
    per_slot = (slots.tokens_s, slots.lengths_s, slots.limits_s, slots.finished_s, slots.said_sm)
    for tensor in (*per_slot, *(part for layer in slots.cache for part in layer)):
        # One by one: a gather would ask for memory that a full GPU has not.
        for new, old in moved.items():
            tensor[new].copy_(tensor[old])
    for old in moved.values():
        slots.finished_s[old] = True


def step(decoder: Decoder, slots: Slots, stops: Tensor, *, rows: int, reach: int) -> None:
    """One more token, the likeliest, for each of the first `rows` slots."""
    tokens, lengths = slots.tokens_s[:rows], slots.lengths_s[:rows]
    logits = read_tokens(decoder, tokens, lengths, slots.cache, reach=reach)
    tokens.copy_(logits.argmax(dim=-1))
    # A row that nobody uses goes on at its last position.
    lengths.add_(1).clamp_(max=slots.prompt_tokens + slots.said_sm.shape[1] - 1)
    said = lengths - slots.prompt_tokens
    slots.said_sm[:rows].scatter_(1, said[:, None], tokens[:, None])
    stopped = (tokens[:, None] == stops).any(dim=1)
    slots.finished_s[:rows].logical_or_(stopped.logical_or_(said + 1 >= slots.limits_s[:rows]))
