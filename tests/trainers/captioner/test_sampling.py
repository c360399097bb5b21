"""Batches are a matter of seed and epoch, not of how many processes share them."""

from __future__ import annotations

import random

import pytest

from recap_spark.trainers.captioner.sampling import epoch_batches, share_of

DRAW = random.Random(3)
LENGTHS = [DRAW.randrange(1, 400) for _ in range(1003)]
PICTURED = [DRAW.random() < 0.8 for _ in LENGTHS]


def batches(epoch=0, seed=1):
    return epoch_batches(LENGTHS, pictured=PICTURED, batch_size=16, pool_batches=10, seed=seed, epoch=epoch)


def test_every_batch_is_full_and_no_row_comes_twice():
    rows = [row for batch in batches() for row in batch]
    assert {len(batch) for batch in batches()} == {16}
    assert len(rows) == len(set(rows)) == 1003 // 16 * 16


def test_an_epoch_is_the_same_each_time_and_another_is_another():
    assert batches() == batches()
    assert batches(epoch=1) != batches()
    assert batches(seed=2) != batches()


def test_rows_with_and_without_a_picture_meet_only_in_the_last_of_both():
    mixed = [batch for batch in batches() if len({PICTURED[row] for row in batch}) == 2]
    assert len(mixed) <= 2


def test_rows_of_a_batch_are_of_like_length():
    def spread(batch):
        lengths = [LENGTHS[row] for row in batch]
        return max(lengths) - min(lengths)

    chance = [LENGTHS[start : start + 16] for start in range(0, 992, 16)]
    by_chance = sum(max(lengths) - min(lengths) for lengths in chance) / len(chance)
    assert sum(map(spread, batches())) / len(batches()) < 0.35 * by_chance


@pytest.mark.parametrize(("world", "micro"), [(1, 16), (1, 2), (2, 4), (4, 1), (8, 2)])
def test_processes_share_a_batch_evenly_and_completely(world, micro):
    batch = batches()[0]
    shares = [
        share_of(batch, LENGTHS, rank=rank, world=world, micro_batch_size=micro) for rank in range(world)
    ]
    assert {len(some) for share in shares for some in share} == {micro}
    assert sorted(row for share in shares for some in share for row in some) == sorted(batch)
    # What runs at the same time is of like length.
    for place in range(16 // (world * micro)):
        together = [LENGTHS[row] for share in shares for row in share[place]]
        later = [LENGTHS[row] for share in shares for some in share[place + 1 :] for row in some]
        assert not later or min(together) >= max(later)
