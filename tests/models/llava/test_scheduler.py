"""Slots stay full while pictures come, and close up when none comes any more."""

from __future__ import annotations

import torch

from recap_spark.models.llava.scheduler import Picture, Scheduler


def run_of(pictures: int, *, slots: int) -> Scheduler[int]:
    run = Scheduler([Picture(n, torch.empty(0), longest=1) for n in range(pictures)], slots=slots)
    run.occupy(run.draw(slots))
    return run


def test_when_no_picture_comes_any_more_the_last_move_into_the_first_slots():
    run = run_of(5, slots=5)
    for slot in (0, 2):
        run.vacate(slot)
    assert not run.drained
    assert run.draw(2) == []
    assert run.drained
    assert (run.live, run.rows) == ([1, 3, 4], 5)
    assert run.close_up() == {0: 4, 2: 3}
    assert run.rows == 3
    assert [run.vacate(slot).row for slot in range(3)] == [4, 1, 3]


def test_slots_without_a_gap_stay_as_they_are():
    run = run_of(3, slots=4)
    run.vacate(2)
    assert run.close_up() == {}
    assert run.rows == 2


def test_pictures_that_are_put_back_still_come():
    run = run_of(2, slots=3)
    assert run.draw(1) == []
    assert run.drained
    run.restart(slots=1)
    assert not run.drained
    assert [picture.row for picture in run.draw(1)] == [0]
