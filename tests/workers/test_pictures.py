from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures import Picture, PictureError, decode_rgb, described, opened, prove

PLENTY = 10_000_000


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def examine(body, *, largest_pixels):
    with opened(body, largest_pixels=largest_pixels) as image:
        picture = described(image)
        prove(image)
        return picture


def rgb(body):
    return np.asarray(decode_rgb(body, largest_pixels=PLENTY)).astype(int)


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


# Its pixels


def test_colours_and_greys_keep_their_levels():
    assert (rgb(encoded(NOISE, "PNG")) == np.asarray(NOISE)).all()
    assert rgb(encoded(Image.new("L", (2, 2), 77), "PNG"))[0, 0].tolist() == [77, 77, 77]
    assert rgb(encoded(Image.new("1", (2, 2), 1), "PNG"))[0, 0].tolist() == [255, 255, 255]
    assert rgb(encoded(Image.new("1", (2, 2), 0), "TIFF"))[0, 0].tolist() == [0, 0, 0]


def test_sixteen_bit_greys_are_scaled_and_not_cut_off():
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(1, 256)
    for format in ("PNG", "TIFF"):
        assert rgb(encoded(Image.fromarray(ramp), format))[0, :, 0].tolist() == (ramp[0] >> 8).tolist()


def test_eight_bits_kept_in_sixteen_stay_as_bright_as_they_are():
    levels = np.arange(256, dtype=np.uint16).reshape(1, 256)
    assert rgb(encoded(Image.fromarray(levels), "TIFF"))[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_levels_without_an_agreed_white_are_spread_over_those_present(dtype):
    levels = np.array([[-1000, 0, 1000]], dtype=dtype)
    assert rgb(encoded(Image.fromarray(levels), "TIFF"))[0, :, 0].tolist() == [0, 127, 255]
    flat = np.full((2, 2), 5, dtype=dtype)
    assert rgb(encoded(Image.fromarray(flat), "TIFF")).max() == 0


def test_levels_that_are_no_numbers_do_no_harm():
    levels = np.array([[np.nan, np.inf, 0.0, 1.0]], dtype=np.float32)
    assert rgb(encoded(Image.fromarray(levels), "TIFF"))[0, :, 0].tolist() == [0, 0, 0, 255]


def test_transparency_shows_white_and_never_the_hidden_colour():
    clear_red = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert rgb(encoded(clear_red, "PNG"))[0, 0].tolist() == [255, 255, 255]
    assert rgb(encoded(clear_red, "WEBP", lossless=True, exact=True))[0, 0].tolist() == [255, 255, 255]
    half_black = Image.new("LA", (2, 2), (0, 128))
    assert rgb(encoded(half_black, "PNG"))[0, 0].tolist() == [127, 127, 127]


def test_a_transparent_palette_entry_or_key_colour_shows_white():
    striped = Image.new("P", (2, 1))
    striped.putpalette([200, 0, 0, 0, 0, 200])
    striped.putpixel((1, 0), 1)
    for format in ("PNG", "GIF"):
        pixels = rgb(encoded(striped, format, transparency=0))
        assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 200]]
    grey = Image.new("L", (1, 1), 40)
    assert rgb(encoded(grey, "PNG", transparency=40))[0, 0].tolist() == [255, 255, 255]
    red = Image.new("RGB", (1, 1), "red")
    assert rgb(encoded(red, "PNG", transparency=(255, 0, 0)))[0, 0].tolist() == [255, 255, 255]


def test_printers_colours_become_screens_colours():
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    assert rgb(encoded(cyan, "JPEG", quality=100))[0, 0] == pytest.approx([0, 255, 255], abs=4)
    assert rgb(encoded(cyan, "TIFF"))[0, 0].tolist() == [0, 255, 255]
    lab = Image.new("LAB", (2, 2), (255, 128, 128))
    assert rgb(encoded(lab, "TIFF")).shape == (2, 2, 3)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_animation_is_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    body = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert rgb(body)[0, 0] == pytest.approx([255, 0, 0], abs=6)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_set_upright_and_its_stored_size_reported(format, orientation):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # a white quarter at the top left
    body = encoded(laid_down(Image.fromarray(upright), orientation), format, **exif(orientation))
    assert rgb(body).shape == (16, 32, 3)
    assert rgb(body)[2, 2] == pytest.approx([255, 255, 255], abs=12)
    assert rgb(body)[13, 2] == pytest.approx([0, 0, 0], abs=12)
    assert rgb(body)[2, 29] == pytest.approx([0, 0, 0], abs=12)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "broken", [b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", b"Exif\x00\x00" + b"\xff" * 50]
)
def test_broken_exif_does_not_cost_the_picture(broken):
    assert rgb(encoded(NOISE, "JPEG", exif=broken)).shape == (30, 40, 3)


def laid_down(image, orientation):
    """The stored picture that this orientation turns into `image`."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    return image if undo is None else image.transpose(undo)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return {"exif": tags}


def png_header(width, height):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
