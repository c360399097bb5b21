"""Every mode makes its size, with OpenCV as the second resizer."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from likeness import likeness_db, seen
from picture_bytes import encoded, scene
from PIL import Image

# Sizes


@pytest.mark.parametrize(
    ("mode", "wide", "tall", "small"),
    [
        ("keep_ratio", (96, 64), (64, 150), (128, 64)),
        ("center_crop", (64, 64), (64, 64), (64, 64)),
        ("keep_ratio_largest", (64, 43), (27, 64), (64, 32)),
        ("border", (64, 64), (64, 64), (64, 64)),
    ],
)
def test_each_mode_makes_its_size(prepared, mode, wide, tall, small):
    for size, wanted in (((300, 200), wide), ((100, 235), tall), ((20, 10), small)):
        found = prepared(encoded(scene(*size), "PNG"), resize_mode=mode)
        assert (found.picture.width, found.picture.height) == wanted
        assert seen(found.encoded).shape == (wanted[1], wanted[0], 3)


@pytest.mark.parametrize(
    ("mode", "size", "resized"),
    [
        ("keep_ratio", (90, 64), False),
        ("keep_ratio", (90, 65), True),
        ("center_crop", (90, 64), False),
        ("center_crop", (90, 65), True),
        ("keep_ratio_largest", (64, 20), False),
        ("keep_ratio_largest", (65, 20), True),
        ("border", (64, 20), False),
        ("border", (65, 20), True),
    ],
)
def test_only_bigger_ones_are_resized_and_the_rest_neither_cropped_nor_bordered(
    prepared, mode, size, resized
):
    found = prepared(encoded(scene(*size), "PNG"), resize_mode=mode, resize_only_if_bigger=True)
    assert (found.encoded is not None) == resized
    assert ((found.picture.width, found.picture.height) != size) == resized


# Pixels


@pytest.mark.parametrize("size", [(128, 128), (131, 97), (300, 200), (640, 512), (777, 1000)])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_shrinking_by_area_is_what_opencv_makes_of_it(prepared, size, format):
    body = encoded(scene(*size), format)
    ours = seen(prepared(body, resize_mode="keep_ratio").encoded)
    theirs = cv2.resize(seen(body).astype(np.uint8), ours.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert likeness_db(ours, theirs) > 36


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("nearest", cv2.INTER_NEAREST),
        ("bilinear", cv2.INTER_LINEAR),
        ("bicubic", cv2.INTER_CUBIC),
        ("area", cv2.INTER_AREA),
        ("lanczos", cv2.INTER_LANCZOS4),
    ],
)
def test_enlarging_is_what_opencv_makes_of_it(prepared, name, theirs):
    body = encoded(scene(32, 48), "PNG")
    found = prepared(body, resize_mode="keep_ratio", upscale_interpolation=name)
    wanted = cv2.resize(seen(body).astype(np.uint8), (64, 96), interpolation=theirs)
    assert likeness_db(seen(found.encoded), wanted) > (33 if name in ("nearest", "bicubic") else 36)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "area", "lanczos"])
def test_shrinking_leaves_no_moire(prepared, name):
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # finer than the target can show
    found = prepared(
        encoded(Image.fromarray(stripes), "PNG"), resize_mode="keep_ratio", downscale_interpolation=name
    )
    inner = seen(found.encoded)[8:-8, 8:-8]
    assert np.abs(inner - 127.5).max() < 8


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "area", "lanczos"])
def test_a_jpeg_decoded_at_a_fraction_looks_as_if_it_had_been_decoded_whole(prepared, name):
    jpeg = encoded(scene(1021, 700), "JPEG", quality=95)
    whole = encoded(Image.fromarray(seen(jpeg).astype(np.uint8)), "PNG")
    shrunk = partial(prepared, resize_mode="keep_ratio", downscale_interpolation=name)
    assert likeness_db(seen(shrunk(jpeg).encoded), seen(shrunk(whole).encoded)) > 36


def test_the_middle_is_cropped_and_the_border_is_white_on_both_sides(prepared):
    red_in_blue = Image.new("RGB", (192, 64), "blue")
    red_in_blue.paste("red", (64, 0, 128, 64))
    body = encoded(red_in_blue, "PNG")
    assert (seen(prepared(body, resize_mode="center_crop").encoded) == (255, 0, 0)).all()
    bordered = seen(prepared(body, resize_mode="border").encoded)
    coloured = (bordered != 255).any(axis=(1, 2))
    assert (coloured.argmax(), coloured.sum()) == (21, 21)
