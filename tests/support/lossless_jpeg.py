"""Lossless JPEGs (SOF3, ITU-T T.81 annex H), which Pillow reads and does not write"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

_CATEGORIES = 9  # of differences of 8 bits; each has a code of four bits, its own number


def lossless_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """uint8 [H, W] or [H, W, 3] as a JPEG that gives back every level: each pixel is predicted by its left
    neighbour, the first of a line by the one above.
    """
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, layers = planes.shape
    numbers = range(1, layers + 1)
    frame = struct.pack("!BHHB", 8, height, width, layers) + b"".join(bytes((n, 0x11, 0)) for n in numbers)
    codes = bytes((0, 0, 0, 0, _CATEGORIES, *(0,) * 12, *range(_CATEGORIES)))
    scan = bytes((layers, *(part for n in numbers for part in (n, 0)), 1, 0, 0))
    # libjpeg takes three components without a word for YCbCr, which no lossless decoder converts.
    adobe = b"Adobe" + struct.pack("!HHHB", 100, 0, 0, 0)
    segments = ((0xEE, adobe), (0xC3, frame), (0xC4, codes), (0xDA, scan))
    head = b"".join(b"\xff" + struct.pack("!BH", mark, len(body) + 2) + body for mark, body in segments)
    return b"\xff\xd8" + head + _entropy_coded(planes.astype(int)) + b"\xff\xd9"


def _entropy_coded(planes: npt.NDArray[np.int_]) -> bytes:
    above = np.vstack((np.full_like(planes[:1, 0], 128), planes[:-1, 0]))
    predicted = np.concatenate((above[:, None], planes[:, :-1]), axis=1)
    bits = "".join(_code(int(difference)) for difference in (planes - predicted).ravel())
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def _code(difference: int) -> str:
    category = abs(difference).bit_length()
    shown = difference if difference > 0 else difference + (1 << category) - 1
    return f"{category:04b}" + (f"{shown:0{category}b}" if category else "")
