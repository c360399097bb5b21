"""An open JPEG → decoded at 1/2, 1/4 or 1/8, where its kind allows it"""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageFile

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; between them DHT, JPG and DAC
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})  # marks that no length follows
_SCAN = 0xDA

Part = tuple[float, float, float, float]


def draft(image: Image.Image, mode: str | None, size: tuple[int, int]) -> Part | None:
    """Let an undecoded JPEG decode smaller, but not below `size`, and in another mode; as Pillow's own
    `draft`.

    Returns the part of the decoded pixels that is the picture, None where it decodes as it is: other formats,
    and lossless JPEGs, which have no coefficients to leave out and for which libjpeg refuses.
    """
    if not isinstance(image, ImageFile.ImageFile) or not isinstance(image.fp, BytesIO):
        return None
    if image.format not in ("JPEG", "MPO") or _is_lossless(image.fp.getbuffer()):
        return None
    drafted = image.draft(mode, size)
    return None if drafted is None else drafted[1]


def _is_lossless(jpeg: memoryview) -> bool:
    """By the mark of its first frame (ITU-T T.81, table B.1); bytes between segments are passed over, as
    Pillow does.
    """
    at = 2
    while at + 4 <= len(jpeg):
        mark = jpeg[at + 1]
        if jpeg[at] != 0xFF or mark in (0x00, 0xFF):
            at += 1
        elif mark in _FRAMES or mark == _SCAN:
            return mark in _LOSSLESS
        else:
            at += 2 if mark in _ALONE else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return False
