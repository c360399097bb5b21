"""Whatever bytes and face boxes come, they end in a picture or in a status."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lossless_jpeg import lossless_jpeg
from picture_bytes import encoded, scene

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.preparing import prepare

SOUND = {
    name: encoded(scene(40, 30), name)
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")
} | {"lossless": lossless_jpeg(np.asarray(scene(40, 30)))}
CHANGES = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=9)), max_size=4)
BOXES = st.none() | st.lists(st.none() | st.lists(st.none() | st.floats(), max_size=5), max_size=3)


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
    try:
        found = prepare(SOUND["PNG"], faces=faces or (), rules=rules, largest_pixels=100_000)
        kept.append(found.encoded is None)
    except PictureError as error:
        refused.append(error.status)
    assert (refused, kept) in (([FetchStatus.BAD_FACE_BOX], []), ([], [not faces]))
