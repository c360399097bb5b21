"""What is decoded is upright 8-bit RGB, whatever the picture is stored as."""

from __future__ import annotations

import numpy as np
import pytest
from picture_bytes import encoded
from PIL import Image

from recap_spark.workers.pictures.pictures import decode_rgb

PLENTY = 10_000_000
NOISE = Image.effect_noise((40, 30), 60).convert("RGB")


def rgb(body):
    return np.asarray(decode_rgb(body, largest_pixels=PLENTY)).astype(int)


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
