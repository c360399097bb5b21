"""seed and epoch → batches of rows of like length, the same for any number of processes"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

A = TypeVar("A")


def epoch_batches(
    lengths: Sequence[int],
    *,
    pictured: Sequence[bool],
    batch_size: int,
    pool_batches: int,
    seed: int,
    epoch: int,
) -> list[list[int]]:
    """Row numbers in batches of exactly `batch_size`, rows with a picture apart from rows without.

    Rows are shuffled, cut into pools of so many batches, sorted by length within a pool, cut into batches,
    and the batches shuffled (transformers' LengthGroupedSampler; by modality as LLaVA-1.5's
    `group_by_modality_length`). What is left of both kinds is mixed; less than a batch at the end is
    dropped, other rows each epoch.
    """
    draw = random.Random(f"{seed}/{epoch}")
    batches: list[list[int]] = []
    left: list[int] = []
    for kind in (True, False):
        rows = [row for row, has_picture in enumerate(pictured) if has_picture == kind]
        draw.shuffle(rows)
        for pool in _cut(rows, batch_size * pool_batches):
            for batch in _cut(sorted(pool, key=lambda row: lengths[row], reverse=True), batch_size):
                if len(batch) == batch_size:
                    batches.append(batch)
                else:
                    left += batch
    draw.shuffle(left)
    batches += [batch for batch in _cut(left, batch_size) if len(batch) == batch_size]
    draw.shuffle(batches)
    return batches


def share_of(
    batch: Sequence[int], lengths: Sequence[int], *, rank: int, world: int, micro_batch_size: int
) -> list[list[int]]:
    """One process's part of a batch, in micro-batches of like length.

    All processes' n-th micro-batches are of like length too, as they wait for each other. The batch must be a
    multiple of world × micro_batch_size.
    """
    ordered = sorted(batch, key=lambda row: (-lengths[row], row))
    return _cut(ordered[rank::world], micro_batch_size)


def _cut(rows: list[A], size: int) -> list[list[A]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
