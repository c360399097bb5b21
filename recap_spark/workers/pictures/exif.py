"""An open picture → its EXIF as JSON, by img2dataset's names

img2dataset (1.47, downloader.py) stores what exifread says without details: `{"Image Make": "…", "EXIF
FNumber": "14/5", "GPS GPSLatitude": "[52, 31, 12]"}`. As there, tags with bytes in a camera maker's own
format are left out. Enumerated values appear as numbers, where exifread has words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

_LARGEST_BLOCK = 1 << 18  # a JPEG's segment holds 64 KiB; other containers set no bound
_LONGEST_VALUE = 256  # characters; a copyright notice has a hundred
_MOST_TAGS = 128  # a camera writes some 60
_LONGEST = 1 << 16  # bytes of JSON
_POINTERS = frozenset({ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo})


def exif_json(image: Image.Image) -> str | None:
    """The EXIF as at most 64 KiB of ASCII; None where there is none, or it is longer or too broken to be
    read.

    For a picture whose pixels are loaded: a PNG's EXIF may be behind them.
    """
    try:
        if len(image.info.get("exif", b"")) > _LARGEST_BLOCK:
            return None
        tags = dict(_tags(image.getexif()))
    # Broken EXIF is common beside sound pixels, and Pillow's parser raises as much as its decoders do. Even
    # memory: pixels were loaded before, so a block that asks for more than there is lies about its size.
    except Exception:
        return None
    said = json.dumps(tags)
    return said if tags and len(said) <= _LONGEST else None


def _tags(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    parts = (
        ("Image", exif, ExifTags.TAGS),
        ("EXIF", exif.get_ifd(ExifTags.IFD.Exif), ExifTags.TAGS),
        ("GPS", exif.get_ifd(ExifTags.IFD.GPSInfo), ExifTags.GPSTAGS),
    )
    for part, held, names in parts:
        for number in list(held)[:_MOST_TAGS]:
            said = None if number in _POINTERS else _said(held[number])
            if said and number in names:
                yield f"{part} {names[number]}", said[:_LONGEST_VALUE]


def _said(value: object) -> str | None:
    """A value as text; None for bytes that are none."""
    if isinstance(value, bytes):
        text = value.strip(b"\0 ")
        return text.decode() if text.isascii() and text.decode().isprintable() else None
    if isinstance(value, tuple):
        return f"[{', '.join(filter(None, map(_said, value[:_LONGEST_VALUE])))}]"
    if isinstance(value, IFDRational):
        top, bottom = value.numerator, value.denominator
        return str(Fraction(int(top), bottom)) if bottom else f"{top}/0"
    return str(value).strip("\0 ")
