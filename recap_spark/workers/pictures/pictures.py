"""Hostile bytes → what picture they hold, or its pixels"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.drafts import draft

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# NumPy is imported where it is needed: few pictures need it, and a decoder starts in half the time.

# The common formats of the web, no others: this shuts Ghostscript (EPS), PSD, ICNS and twenty more parsers.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")
_NAMES = {"MPO": "jpeg"}  # a JPEG with further pictures behind the first, which is the one taken
_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns from 89 million pixels on and refuses from 179 million on; below that our own limit decides.
# For the whole process, since a filter set around one call is not safe among threads.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class PictureError(Exception):
    """These bytes are no picture that can be used; the status says why."""

    def __init__(self, status: FetchStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture whose first frame has been decoded once, from its first byte to its last."""

    width: int  # as stored: EXIF may turn it, but the metadata's sizes and face boxes are of the unturned one
    height: int
    format: str  # jpeg, png, webp, gif, bmp, tiff, avif


def decode_rgb(body: bytes, *, largest_pixels: int) -> Image.Image:
    """Decode the first frame as RGB, upright, on white where it is transparent, 16 bits scaled to 8."""
    with opened(body, largest_pixels=largest_pixels) as image:
        pixels, turn = decoded(image)
        return pixels if turn is None else pixels.transpose(turn)


def described(image: Image.Image) -> Picture:
    """What the header says."""
    name = image.format or ""
    return Picture(width=image.width, height=image.height, format=_NAMES.get(name, name.lower()))


def prove(image: Image.Image) -> None:
    """Decode an open picture to find out whether that is possible."""
    # At 1/8 and without colours libjpeg still reads every coefficient, and leaves out most of the arithmetic.
    draft(image, "L", (1, 1))
    image.load()


def decoded(image: Image.Image) -> tuple[Image.Image, Image.Transpose | None]:
    """An open picture as RGB pixels, and how EXIF would turn them upright."""
    image.load()  # a PNG's EXIF may be behind its pixels
    return _rgb(image), _UPRIGHT.get(_orientation(image))


@contextmanager
def opened(body: bytes, *, largest_pixels: int) -> Iterator[Image.Image]:
    """Open a picture by its header. Raises PictureError, also for what goes wrong while it is open: Pillow
    reads pixels when they are asked for.
    """
    if not has_signature(body):
        raise PictureError(FetchStatus.NOT_AN_IMAGE, f"starts with {body[:8].hex(' ') or 'nothing'}")
    try:
        with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
            if image.width * image.height > largest_pixels:
                raise PictureError(FetchStatus.TOO_MANY_PIXELS, f"{image.width} x {image.height}")
            yield image
    except PictureError:
        raise
    except Image.DecompressionBombError as cause:
        raise PictureError(FetchStatus.TOO_MANY_PIXELS, "past Pillow's own limit") from cause
    except MemoryError:  # the machine's fault, not the picture's
        raise
    # On damaged files Pillow has been seen to raise OSError, ValueError, SyntaxError, NotImplementedError,
    # struct.error, IndexError, KeyError, TypeError and zlib.error, and promises none of them.
    except Exception as cause:
        raise PictureError(FetchStatus.UNDECODABLE, f"{type(cause).__name__}: {cause}"[:200]) from cause


def has_signature(body: bytes) -> bool:
    """Whether bytes, twelve or more, begin as one of the formats does."""
    if body.startswith(_SIGNATURES):
        return True
    return (body[:4], body[8:12]) == (b"RIFF", b"WEBP") or body[4:12] in (b"ftypavif", b"ftypavis")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    # Broken EXIF is common beside sound pixels, and Pillow's parser raises as much as its decoders do.
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        import numpy as np

        levels = np.asarray(image)
        # Scanners and labs store 8 bits in 16; a real 16-bit picture that dark would be black all over.
        return _grey(levels if levels.max() < 256 else levels >> 8)
    if image.mode in ("I", "F"):
        import numpy as np

        return _grey(_stretched(np.asarray(image, dtype=np.float64)))
    if image.has_transparency_data:
        return _on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")  # Pillow copies what is RGB already


def _grey(levels: npt.NDArray[np.generic]) -> Image.Image:
    import numpy as np

    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _stretched(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 to 255 over the values present: 32-bit levels have no agreed white."""
    import numpy as np

    finite = np.nan_to_num(levels, posinf=0.0, neginf=0.0)
    low, high = finite.min(), finite.max()
    return (finite - low) * (255.0 / (high - low)) if high > low else np.zeros_like(finite)


def _on_white(image: Image.Image) -> Image.Image:
    # Dropping alpha instead would uncover whatever colour was painted beneath it.
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
