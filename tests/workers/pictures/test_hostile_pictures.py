"""Whatever bytes and face boxes come, they end in a picture or in a status."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lossless_jpeg import lossless_jpeg
from picture_bytes import encoded, scene
from PIL import Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.preparing import prepare

SOUND = {
    name: encoded(scene(40, 30), name)
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")
} | {"lossless": lossless_jpeg(np.asarray(scene(40, 30)))}
CHANGES = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=9)), max_size=4)
ENDS = st.floats(-0.5, 1.5) | st.floats()
BOXES = st.none() | st.lists(
    st.none() | st.lists(ENDS, min_size=4, max_size=4) | st.lists(st.none() | ENDS, max_size=5), max_size=3
)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
VISIBLE = 4  # pixels: below, a face is no more than a few dots


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(format=st.sampled_from(sorted(SOUND)), changes=CHANGES, cut=st.integers(0, 500), faces=BOXES)
def test_damaged_pictures_with_any_boxes_are_pictures_or_statuses(rules, format, changes, cut, faces):
    body = bytearray(SOUND[format])
    for at, words in changes:
        body[at : at + len(words)] = words
    for one in (rules, replace(rules, resize_mode="keep_ratio", image_size=16)):
        with suppress(PictureError):
            found = prepare(
                bytes(body[: len(body) - cut]), faces=faces or (), rules=one, largest_pixels=100_000
            )
            assert 0 < found.picture.width * found.picture.height <= 100_000


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faces=BOXES)
def test_boxes_either_change_a_sound_picture_or_refuse_it_and_say_so(rules, faces):
    """No face that is named with a size stays as it came."""
    refused: list[FetchStatus] = []
    kept: list[bool] = []
    exact = replace(rules, encode_format="png", encode_quality=1)
    body = encoded(Image.fromarray(NOISE), "PNG")
    try:
        found = prepare(body, faces=faces or (), rules=exact, largest_pixels=100_000)
        kept.append(found.encoded is None)
    except PictureError as error:
        refused.append(error.status)
    assert (refused, kept) in (([FetchStatus.BAD_FACE_BOX], []), ([], [not faces]))
    if faces and kept:
        is_changed = (np.asarray(Image.open(io.BytesIO(found.encoded))) != NOISE).any(axis=2)
        inside = [is_changed[rows, columns] for rows, columns in map(pixels_of, faces)]
        assert all(each.mean() > 0.9 for each in inside if max(each.shape) >= VISIBLE and each.size)


def pixels_of(box: list[float]) -> tuple[slice, slice]:
    """The rows and the columns of the picture that are wholly within a box."""
    (left, right), (upper, lower) = sorted(box[::2]), sorted(box[1::2])
    return _within(upper, lower, NOISE.shape[0]), _within(left, right, NOISE.shape[1])


def _within(low: float, high: float, size: int) -> slice:
    return slice(math.ceil(max(0.0, low) * size), math.floor(min(1.0, high) * size))
