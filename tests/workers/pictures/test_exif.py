"""EXIF is data where it can be read and null where it cannot: it never costs the picture."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from recap_spark.workers.pictures.decoders import Parcel, prepare_all
from recap_spark.workers.pictures.preparing import prepare

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow has one for every oddity; a decoder hears none


@pytest.fixture
def asking(rules):
    return replace(rules, extract_exif=True)


def said_by(body, rules):
    found = prepare(body, faces=(), rules=rules, largest_pixels=1_000_000).exif
    return None if found is None else json.loads(found)


def photograph(format="JPEG", **options):
    """A picture as a camera writes it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Söme maker\0"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = IFDRational(72, 1)
    within = exif.get_ifd(ExifTags.IFD.Exif)
    within[ExifTags.Base.FNumber] = IFDRational(28, 10)
    within[ExifTags.Base.ExposureTime] = IFDRational(1, 0)
    within[ExifTags.Base.ExifVersion] = b"0230"
    within[ExifTags.Base.MakerNote] = bytes(range(256))
    within[ExifTags.Base.LensModel] = "x" * 5_000
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, IFDRational(123, 10))
    out = io.BytesIO()
    Image.new("RGB", (32, 24)).save(out, format, exif=exif, **options)
    return out.getvalue()


def with_block(block):
    """A JPEG whose EXIF is these bytes."""
    out = io.BytesIO()
    Image.new("RGB", (32, 24)).save(out, "JPEG", exif=b"Exif\0\0" + block)
    return out.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_every_format_s_tags_are_named_as_img2dataset_names_them(asking, format):
    said = said_by(photograph(format), asking)
    assert said["Image Orientation"] == "6"
    assert said["Image XResolution"] == "72"
    assert said["EXIF FNumber"] == "14/5"
    assert said["EXIF ExposureTime"] == "1/0"
    assert said["EXIF ExifVersion"] == "0230"
    assert said["GPS GPSLatitudeRef"] == "N"
    assert said["GPS GPSLatitude"] == "[52, 31, 123/10]"
    assert said["Image Make"].endswith("me maker")
    assert len(said["EXIF LensModel"]) == 256
    assert not {"EXIF MakerNote", "Image ExifOffset", "Image GPSInfo"} & said.keys()


def test_a_tiff_s_tags_are_its_own(asking):
    said = said_by(photograph("TIFF"), asking)  # Pillow writes no parts, and turns a TIFF as it loads it
    assert (said["Image XResolution"], said["Image ImageWidth"]) == ("72", "32")
    assert "Image Orientation" not in said


def test_it_is_of_the_body_also_where_the_picture_is_encoded_anew(asking):
    changed = replace(asking, reencode="always", resize_mode="border", image_size=16)
    assert said_by(photograph(), changed)["EXIF FNumber"] == "14/5"


def test_there_is_none_where_none_is_asked_for_or_none_is_there(asking, rules):
    assert said_by(photograph(), rules) is None
    assert said_by(with_block(b""), asking) is None


def test_it_travels_from_a_decoder_with_its_picture(asking, decode):
    (outcome,) = prepare_all([Parcel(None, photograph(), ())], rules=asking, decode=decode)
    assert json.loads(outcome.answer.exif)["Image Orientation"] == "6"


def ifd(*entries, next=0):
    """A little-endian IFD at offset 8 with entries of (tag, type, count, value)."""
    packed = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in entries
    )
    head = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    return head + packed + next.to_bytes(4, "little")


@pytest.mark.parametrize(
    "block",
    [
        b"II",
        b"no TIFF at all, only words",
        b"II*\0\xff\xff\xff\xff",
        ifd((0x8769, 4, 1, 8)),  # an IFD that is its own part
        ifd((0x8769, 4, 1, 0xFFFFFFF0)),
        ifd((0x8769, 2, 4, 0x41414141)),  # a pointer that is text
        ifd((0x010F, 2, 0xFFFFFFFF, 64)),  # four gigabytes of maker
        ifd((0x0112, 3, 0, 0)),
        ifd((0x0112, 99, 1, 1)),
        ifd(*[(0x010F, 1, 4, 7)] * 5_000),
        ifd((0x8825, 4, 1, 8), (0x0001, 5, 1, 8)),
    ],
    ids=range(11),
)
def test_a_hostile_block_costs_neither_the_picture_nor_much_room(asking, block):
    found = prepare(with_block(block), faces=(), rules=asking, largest_pixels=1_000_000)
    assert found.picture.width == 32
    assert found.exif is None or len(found.exif) < 100_000


def test_damage_anywhere_in_the_block_costs_at_most_the_block(asking):
    body, draw = bytearray(photograph()), random.Random(3)
    start, end = body.index(b"Exif\0\0") + 6, body.index(b"Exif\0\0") + 600
    ends = set()
    for _ in range(300):
        damaged = bytearray(body)
        for _ in range(8):
            damaged[draw.randrange(start, end)] = draw.randrange(256)
        found = prepare(bytes(damaged), faces=(), rules=asking, largest_pixels=1_000_000)
        assert found.picture.width == 32
        ends.add(found.exif is None)
    assert ends == {True, False}


def test_a_block_larger_than_any_camera_s_is_not_looked_at(asking):
    out = io.BytesIO()
    block = ifd((0x010F, 2, 300_000, 26)) + b"m" * 300_000
    Image.new("RGB", (32, 24)).save(out, "PNG", exif=b"Exif\0\0" + block)
    assert said_by(out.getvalue(), asking) is None
