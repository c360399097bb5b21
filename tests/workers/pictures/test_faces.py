from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.faces import blur_faces, usable_boxes
from recap_spark.workers.pictures.pictures import PictureError

NOISE = Image.effect_noise((200, 120), 80).convert("RGB")


def spread(levels):
    """Standard deviation, in pixels, of light along a line."""
    places = np.arange(len(levels))
    middle = (levels * places).sum() / levels.sum()
    return math.sqrt((levels * (places - middle) ** 2).sum() / levels.sum())


@pytest.mark.parametrize("side", [60, 100, 200, 400])
def test_an_impulse_spreads_by_a_tenth_of_the_faces_longer_side(side):
    # A point of light would be rounded away, so it is a block, whose own variance is taken off.
    block = side // 10 + 1
    size = 3 * side
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    start = (size - block) // 2
    pixels[start : start + block, start : start + block] = 255
    face = [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    light = np.asarray(blur_faces(Image.fromarray(pixels), [face]), dtype=float)[..., 0]
    for axis in (0, 1):
        measured = math.sqrt(spread(light.sum(axis=axis)) ** 2 - (block**2 - 1) / 12)
        assert measured == pytest.approx(0.1 * side, rel=0.03)


def test_a_small_face_is_hidden_beside_a_large_one_as_well_as_alone():
    small, large = [0.05, 0.3, 0.15, 0.7], [0.5, 0.0, 1.0, 1.0]
    alone = np.asarray(blur_faces(NOISE, [small]))[36:84, 10:30]
    together = np.asarray(blur_faces(NOISE, [large, small]))[36:84, 10:30]
    assert (alone == together).all()
    assert alone.std() < np.asarray(NOISE)[36:84, 10:30].std() / 3


def test_what_lies_far_from_a_face_keeps_every_pixel():
    before = np.asarray(NOISE)
    after = np.asarray(blur_faces(NOISE, [[0.1, 0.2, 0.2, 0.4]]))  # 20 x 24 pixels at (20, 24): sigma 2.4
    assert (after[:, 64:] == before[:, 64:]).all()
    assert (after[70:] == before[70:]).all()
    assert after[24:48, 20:40].std() < before[24:48, 20:40].std() / 3


def test_a_part_is_blurred_as_the_whole_would_be():
    """Only the surroundings of a face are computed."""
    face = [0.4, 0.4, 0.6, 0.65]
    wide = Image.new("RGB", (600, 520))
    wide.paste(NOISE, (200, 200))
    inside = [(200 + 200 * face[0]) / 600, (200 + 120 * face[1]) / 520]
    outside = [(200 + 200 * face[2]) / 600, (200 + 120 * face[3]) / 520]
    parted = np.asarray(blur_faces(NOISE, [face]), dtype=int)
    whole = np.asarray(blur_faces(wide, [[*inside, *outside]]), dtype=int)[200:320, 200:400]
    assert np.abs(parted - whole).max() <= 1


@pytest.mark.parametrize(
    "box",
    [
        *(None, [], [0.1, 0.1, 0.2], [0.1] * 5, [0.1, 0.1, None, 0.2], [math.nan, 0, 1, 1]),
        *([40, 30, 90, 80], [0.2, 1.0, 0.4, 1.2], [-0.2, 0.1, 0.0, 0.4], [math.inf] * 4),  # outside, pixels
        *([0, 0, 90, 80], [0.1, 0.1, 0.2, 2.1], [-1.1, 0, 1, 1], [-math.inf, 0, 1, math.inf]),
        *([0.5] * 4, [0] * 4, [1] * 4),  # points
    ],
)
def test_a_box_that_says_no_place_is_a_face_that_cannot_be_hidden(box):
    with pytest.raises(PictureError, match=r"want \[x0, y0, x1, y1\] of 0 to 1, found ") as caught:
        usable_boxes([[0.1, 0.2, 0.2, 0.4], box])
    assert caught.value.status == FetchStatus.BAD_FACE_BOX


@pytest.mark.parametrize("box", [[-1.0, -0.5, 2.0, 1.5], [1, 1, 0, 0], [0, 1, 1, 0]])
def test_a_box_that_reaches_outside_or_is_turned_round_is_still_a_box(box):
    assert usable_boxes([box]) == ((0, 0, 1, 1),)


@pytest.mark.parametrize("box", [(0.5, 0.2, 0.5, 0.4), (1, 0.2, 1, 0.4), (0.2, 0, 0.8, 0)])
def test_a_line_within_the_picture_is_a_box_and_is_blurred(box):
    assert usable_boxes([box]) == (box,)
    assert (np.asarray(blur_faces(NOISE, [box])) != np.asarray(NOISE)).any()


def test_no_box_changes_nothing():
    assert (np.asarray(blur_faces(NOISE, [])) == np.asarray(NOISE)).all()
