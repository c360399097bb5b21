"""A downloaded body → the picture that the table keeps, or why none"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from recap_spark.settings.pictures import PictureRules
from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures import resizing
from recap_spark.workers.pictures.exif import exif_json
from recap_spark.workers.pictures.faces import Box, blur_faces, usable_boxes
from recap_spark.workers.pictures.pictures import Picture, PictureError, decoded, described, opened, prove
from recap_spark.workers.pictures.resizing import Size

_FORMATS = {"jpg": "jpeg", "png": "png", "webp": "webp"}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A picture as it is to be kept, whose first frame has been decoded."""

    picture: Picture  # of `encoded`, or of the body
    encoded: bytes | None  # None: the body, byte by byte
    exif: str | None  # of the body, as JSON; None if there is none or none was asked for


def prepare(
    body: bytes, *, faces: Sequence[Box | None], rules: PictureRules, largest_pixels: int
) -> Prepared:
    """Check a picture, and resize, blur and re-encode it where the rules say so.

    What is re-encoded is 8-bit RGB and upright, and carries no metadata: no EXIF, no colour profile. Raises
    PictureError.
    """
    with opened(body, largest_pixels=largest_pixels) as image:
        picture = described(image)
        _refuse(image.size, rules)
        hidden = usable_boxes(faces) if rules.faces == "blur" else ()
        target = resizing.target_size(image.size, rules)
        if target is None and not hidden and not _reencoded(picture, rules):
            prove(image)
            return Prepared(picture=picture, encoded=None, exif=_exif(image, rules))
        pixels, turn = _pixels(image, target, rules, largest_pixels=largest_pixels)
        exif = _exif(image, rules)
    # Boxes are of the picture as it is stored: what EXIF turns must be blurred before.
    if hidden:
        pixels = blur_faces(pixels, hidden)
    if target is not None:
        pixels = resizing.frame(pixels, rules)
    return _encode(pixels if turn is None else pixels.transpose(turn), rules, exif=exif)


def _exif(image: Image.Image, rules: PictureRules) -> str | None:
    return exif_json(image) if rules.extract_exif else None


def _refuse(size: Size, rules: PictureRules) -> None:
    shorter, longer = sorted(size)
    if shorter < rules.min_image_size:
        raise PictureError(FetchStatus.TOO_SMALL, f"{size[0]} x {size[1]}")
    if rules.max_aspect_ratio is not None and longer > rules.max_aspect_ratio * shorter:
        raise PictureError(FetchStatus.ASPECT_RATIO, f"{size[0]} x {size[1]}")


def _reencoded(picture: Picture, rules: PictureRules) -> bool:
    """Whether a picture that nothing else changes is encoded anew."""
    if rules.reencode == "other_formats":
        return picture.format != _FORMATS[rules.encode_format]
    return rules.reencode == "always"


def _pixels(
    image: Image.Image, target: Size | None, rules: PictureRules, *, largest_pixels: int
) -> tuple[Image.Image, Image.Transpose | None]:
    if target is None:
        return decoded(image)
    # A line of 1 x 4,000,000 pixels becomes 256 times as long where its shorter side is to be 256.
    if target[0] * target[1] > largest_pixels:
        raise PictureError(FetchStatus.TOO_MANY_PIXELS, f"{target[0]} x {target[1]} when resized")
    by = resizing.interpolation(image.size, target, rules)
    box = resizing.draft(image, target, by=by)
    pixels, turn = decoded(image)
    return resizing.resize(pixels, target, box=box, by=by), turn


def _encode(pixels: Image.Image, rules: PictureRules, *, exif: str | None) -> Prepared:
    name = _FORMATS[rules.encode_format]
    option: dict[str, Any] = {"compress_level" if name == "png" else "quality": rules.encode_quality}
    # Pillow's writers hand on what they find here: profiles and comments of the picture that was read.
    pixels.info = {}
    out = io.BytesIO()
    try:
        pixels.save(out, name, **option)
    # JPEG's sides end at 65,500 pixels, which is an OSError, and WebP's at 16,383, which is a ValueError.
    except (OSError, ValueError) as cause:
        raise PictureError(FetchStatus.UNDECODABLE, f"cannot be written as {name}: {cause}") from cause
    picture = Picture(width=pixels.width, height=pixels.height, format=name)
    return Prepared(picture=picture, encoded=out.getvalue(), exif=exif)
