"""Every format and refusal, with OpenCV as the second decoder."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from likeness import likeness_db, seen
from lossless_jpeg import lossless_jpeg
from picture_bytes import encoded, scene
from PIL import Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import Picture, PictureError
from recap_spark.workers.pictures.preparing import prepare

PLENTY = 1_000_000


@pytest.fixture
def refused(prepared):
    def refused(*args, **changes):
        with pytest.raises(PictureError) as caught:
            prepared(*args, **changes)
        return caught.value.status, caught.value.detail

    return refused


# What is kept as it came


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_picture_that_nothing_changes_is_kept_byte_by_byte(prepared, format):
    found = prepared(encoded(scene(60, 40), format))
    assert found.encoded is None
    assert found.picture == Picture(width=60, height=40, format=format.lower())


def test_other_formats_are_encoded_anew_where_the_rule_says_so(prepared):
    jpeg, png = encoded(scene(60, 40), "JPEG"), encoded(scene(60, 40), "PNG")
    to_jpg = partial(prepared, reencode="other_formats", encode_format="jpg", encode_quality=95)
    assert to_jpg(jpeg).encoded is None
    assert to_jpg(png).encoded.startswith(b"\xff\xd8\xff")
    assert prepared(jpeg, reencode="always", encode_format="jpg", encode_quality=95).encoded not in (
        None,
        jpeg,
    )


def test_a_picture_cut_short_is_undecodable_whether_it_is_kept_or_not(refused):
    body = encoded(scene(60, 40), "JPEG")
    for reencode in ("changed", "always"):
        for length in range(30, len(body) - 2, 97):
            assert refused(body[:length], reencode=reencode)[0] == FetchStatus.UNDECODABLE


# What is refused by the header


def test_a_picture_whose_shorter_side_is_too_small_is_refused(prepared, refused):
    body = encoded(scene(60, 40), "JPEG")
    assert refused(body, min_image_size=41) == (FetchStatus.TOO_SMALL, "60 x 40")
    assert prepared(body, min_image_size=40).picture.height == 40


def test_a_picture_that_is_too_long_for_its_width_is_refused(prepared, refused):
    for size in ((90, 30), (30, 90)):
        body = encoded(scene(*size), "JPEG")
        assert refused(body, max_aspect_ratio=2.9) == (FetchStatus.ASPECT_RATIO, f"{size[0]} x {size[1]}")
        assert prepared(body, max_aspect_ratio=3.0).picture.width == size[0]


def test_size_and_shape_are_refused_without_decoding(refused):
    header = encoded(scene(60, 40), "PNG")[:60]  # the rest of its pixels is missing
    assert refused(header, min_image_size=41)[0] == FetchStatus.TOO_SMALL
    assert refused(header, max_aspect_ratio=1.2)[0] == FetchStatus.ASPECT_RATIO
    assert refused(header, largest_pixels=60 * 40 - 1)[0] == FetchStatus.TOO_MANY_PIXELS


def test_a_line_that_would_be_enlarged_beyond_the_limit_is_refused(refused):
    status, detail = refused(encoded(Image.new("RGB", (5000, 1)), "PNG"), resize_mode="keep_ratio")
    assert (status, detail) == (FetchStatus.TOO_MANY_PIXELS, "320000 x 64 when resized")


# How it is encoded anew


@pytest.mark.parametrize(
    ("format", "quality", "starts"),
    [("jpg", 95, b"\xff\xd8\xff"), ("png", 9, b"\x89PNG"), ("webp", 95, b"RIFF")],
)
def test_each_format_is_written_as_the_second_decoder_reads_it(prepared, format, quality, starts):
    body = encoded(scene(60, 40), "BMP")
    found = prepared(body, reencode="always", encode_format=format, encode_quality=quality)
    assert found.encoded.startswith(starts)
    assert found.picture.format == {"jpg": "jpeg"}.get(format, format)
    assert likeness_db(seen(found.encoded), seen(body)) > 30


@pytest.mark.parametrize(("format", "longest"), [("webp", 16_383), ("jpg", 65_500)])
def test_a_side_beyond_what_its_format_can_hold_is_undecodable(prepared, refused, format, longest):
    rule = {"reencode": "always", "encode_format": format, "encode_quality": 50}
    assert prepared(encoded(Image.new("RGB", (longest, 1)), "PNG"), **rule).picture.width == longest
    status, detail = refused(encoded(Image.new("RGB", (1, longest + 1)), "PNG"), **rule)
    assert status == FetchStatus.UNDECODABLE
    assert detail.startswith(f"cannot be written as {'jpeg' if format == 'jpg' else format}: ")


def test_quality_costs_bytes(prepared):
    for format in ("jpg", "webp"):
        body = encoded(scene(60, 40), "PNG")
        low, high = (
            prepared(body, reencode="always", encode_format=format, encode_quality=quality).encoded
            for quality in (30, 95)
        )
        assert len(low) < len(high) * 0.7


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (scene(64, 64).convert("CMYK"), "JPEG"),
        (scene(64, 64).convert("L"), "JPEG"),
        (scene(64, 64).convert("P"), "GIF"),
        (scene(64, 64).convert("LA"), "PNG"),
        (scene(64, 64).convert("RGBA"), "WEBP"),
        (scene(64, 64).convert("1"), "TIFF"),
        (Image.fromarray(np.full((64, 64), 40_000, dtype=np.uint16)), "PNG"),
    ],
)
def test_every_mode_is_written_as_eight_bit_rgb(prepared, image, format):
    found = prepared(encoded(image, format), reencode="always")
    with Image.open(io.BytesIO(found.encoded)) as written:
        assert (written.mode, written.size) == ("RGB", (64, 64))


def test_an_animation_becomes_its_first_frame(prepared):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    for format in ("GIF", "WEBP", "PNG"):
        body = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        found = prepared(body, reencode="always", encode_format="webp", encode_quality=100)
        with Image.open(io.BytesIO(found.encoded)) as written:
            assert getattr(written, "n_frames", 1) == 1
        assert np.abs(seen(found.encoded) - (255, 0, 0)).max() < 8


def test_what_is_encoded_anew_is_upright_and_carries_no_metadata(prepared):
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned right
    tags[0x010E] = "a name"
    stored = scene(90, 40)
    body = encoded(stored, "JPEG", quality=95, exif=tags, comment=b"a name", icc_profile=b"a name" * 30)
    for format in ("jpg", "png", "webp"):
        found = prepared(body, reencode="always", encode_format=format, encode_quality=9)
        assert (found.picture.width, found.picture.height) == (40, 90)
        assert b"a name" not in found.encoded
        with Image.open(io.BytesIO(found.encoded)) as written:
            assert not written.getexif()
    upright = seen(prepared(body, reencode="always").encoded)
    assert likeness_db(upright, np.rot90(np.asarray(stored), k=-1)) > 30
    cropped = prepared(body, resize_mode="keep_ratio_largest")
    assert (cropped.picture.width, cropped.picture.height) == (28, 64)


# Faces


def sharpness(pixels):
    return np.abs(np.diff(pixels.astype(int), axis=1)).mean()


def test_faces_are_blurred_where_the_stored_picture_has_them_before_it_is_turned(prepared):
    tags = Image.Exif()
    tags[0x0112] = 6
    noise = Image.effect_noise((200, 100), 80).convert("RGB")
    body = encoded(noise, "JPEG", quality=95, exif=tags)
    found = prepared(body, faces=[[0.0, 0.0, 0.3, 0.6]])  # top left as stored: top right when turned
    pixels = seen(found.encoded)
    assert pixels.shape == (200, 100, 3)
    assert sharpness(pixels[:50, 50:]) < sharpness(pixels[150:, :50]) / 3
    assert sharpness(pixels[:50, :30]) > sharpness(pixels[150:, :50]) * 0.8


@pytest.mark.parametrize("mode", ["no", "keep_ratio", "center_crop", "border", "keep_ratio_largest"])
def test_faces_are_blurred_in_every_mode_and_always_encoded_anew(prepared, mode):
    noise = Image.effect_noise((128, 128), 80).convert("RGB")
    body = encoded(noise, "PNG")
    blurred = prepared(body, resize_mode=mode, faces=[[0.0, 0.0, 1.0, 1.0]])
    sharp = prepared(body, resize_mode=mode, reencode="always")
    assert sharpness(seen(blurred.encoded)) < sharpness(seen(sharp.encoded)) / 3


def test_faces_stay_where_the_rule_says_so(rules):
    body = encoded(scene(60, 40), "PNG")
    leave = replace(rules, faces="leave")
    assert prepare(body, faces=[[0, 0, 1, 1]], rules=leave, largest_pixels=PLENTY).encoded is None


def test_a_picture_with_a_face_that_cannot_be_placed_is_refused_unless_faces_stay(rules, refused):
    body = encoded(scene(60, 40), "PNG")
    faces = [[0.0, 0.0, 0.2, 0.2], [0.5]]
    found = (FetchStatus.BAD_FACE_BOX, "want [x0, y0, x1, y1] of 0 to 1, found [0.5]")
    assert refused(body, faces=faces) == found
    assert refused(body, faces=faces, min_image_size=41)[0] == FetchStatus.TOO_SMALL
    assert (
        prepare(body, faces=faces, rules=replace(rules, faces="leave"), largest_pixels=PLENTY).encoded is None
    )


def test_a_lossless_jpeg_is_resized_from_all_its_pixels(prepared):
    found = prepared(lossless_jpeg(np.asarray(scene(160, 120))), resize_mode="keep_ratio", image_size=30)
    assert (found.picture.width, found.picture.height) == (40, 30)
