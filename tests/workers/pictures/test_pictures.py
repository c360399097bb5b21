"""A picture is recognised by its bytes, refused by its header, and proven."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from lossless_jpeg import lossless_jpeg
from picture_bytes import encoded
from PIL import Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import Picture, PictureError, decode_rgb, described, opened, prove

PLENTY = 10_000_000


def examine(body, *, largest_pixels):
    with opened(body, largest_pixels=largest_pixels) as image:
        picture = described(image)
        prove(image)
        return picture


def refusal(body, largest_pixels=PLENTY):
    with pytest.raises(PictureError) as caught:
        examine(body, largest_pixels=largest_pixels)
    with pytest.raises(PictureError) as again:
        decode_rgb(body, largest_pixels=largest_pixels)
    assert caught.value.status == again.value.status
    return caught.value.status


NOISE = Image.effect_noise((40, 30), 60).convert("RGB")


# What it is


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tiff"),
        ("AVIF", "avif"),
        ("MPO", "jpeg"),
    ],
)
def test_each_format_of_the_web_is_recognised_by_its_bytes(format, name):
    body = encoded(NOISE, format)
    assert examine(body, largest_pixels=PLENTY) == Picture(width=40, height=30, format=name)
    assert decode_rgb(body, largest_pixels=PLENTY).mode == "RGB"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_lossless_jpeg_is_a_picture_that_keeps_every_level(mode):
    levels = np.asarray(NOISE.convert(mode))
    body = lossless_jpeg(levels)
    assert examine(body, largest_pixels=PLENTY) == Picture(width=40, height=30, format="jpeg")
    assert (np.asarray(decode_rgb(body, largest_pixels=PLENTY).convert(mode)) == levels).all()
    assert refusal(body[: len(body) // 2]) is FetchStatus.UNDECODABLE


@pytest.mark.parametrize("format", ["ICO", "PPM", "TGA", "PCX", "EPS", "PDF", "ICNS"])
def test_formats_beyond_those_are_no_image_here(format):
    assert refusal(encoded(NOISE, format)) == FetchStatus.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xd8",
        b"<!doctype html><img src=a.jpg>",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b'<?xml version="1.0"?><svg/>',
        b"GIF89",
        b"RIFF\x10\x00\x00\x00WAVEfmt ",
        b"\x00\x00\x00\x18ftypheic" + bytes(40),
        bytes(1000),
    ],
)
def test_bytes_without_a_signature_are_no_image(body):
    assert refusal(body) == FetchStatus.NOT_AN_IMAGE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_half_a_picture_is_undecodable(format):
    body = encoded(NOISE, format)
    assert refusal(body[: len(body) // 2]) == FetchStatus.UNDECODABLE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken tags
def test_damage_anywhere_ends_in_a_picture_or_a_status(format):
    rng = np.random.default_rng(7)
    sound = encoded(NOISE, format)
    for _ in range(150):
        body = bytearray(sound)
        for place in rng.integers(0, len(body), size=4):
            body[place] = rng.integers(0, 256)
        with suppress(PictureError):
            assert decode_rgb(bytes(body), largest_pixels=100_000).mode == "RGB"


# How much it is


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_by_the_header_alone():
    assert refusal(png_header(60_000, 60_000)) == FetchStatus.TOO_MANY_PIXELS  # past Pillow's own limit
    assert refusal(png_header(11_000, 11_000)) == FetchStatus.TOO_MANY_PIXELS  # where Pillow only warns
    assert refusal(png_header(4_000, 4_000)) == FetchStatus.TOO_MANY_PIXELS
    assert refusal(encoded(NOISE, "PNG"), largest_pixels=40 * 30 - 1) == FetchStatus.TOO_MANY_PIXELS
    assert examine(encoded(NOISE, "PNG"), largest_pixels=40 * 30).width == 40


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_where_pillow_only_warns_the_callers_limit_decides():
    body = encoded(Image.new("1", (9_500, 9_500)), "PNG")
    assert examine(body, largest_pixels=100_000_000).width == 9_500
    assert refusal(body, largest_pixels=90_000_000) == FetchStatus.TOO_MANY_PIXELS


def test_a_text_chunk_that_unpacks_without_end_is_undecodable():
    sound = encoded(NOISE, "PNG")
    text = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(80_000_000)))
    assert refusal(sound[:33] + text + sound[33:]) == FetchStatus.UNDECODABLE


def test_a_jpeg_is_proven_at_an_eighth_as_strictly_as_in_full():
    """Cut short or overwritten anywhere: what a full decode refuses, the proof refuses, and nothing else."""
    rng = np.random.default_rng(3)
    answers = set()
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        sound = encoded(NOISE, "JPEG", **options)
        for place in rng.integers(2, len(sound), 60):
            for body in (sound[:place], sound[:place] + rng.bytes(8) + sound[place + 8 :]):
                answers.add((sound_by(examine, body), sound_by(decode_rgb, body)))
    assert answers == {(True, True), (False, False)}


def sound_by(decode, body):
    try:
        return bool(decode(body, largest_pixels=PLENTY))
    except PictureError:
        return False


def png_header(width, height):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
