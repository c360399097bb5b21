"""A picture and where its faces are → the picture with its faces blurred

The rule is that of ImageNet's face obfuscation (Yang et al., 2022, arXiv:2103.06191) as DataComp applies it:
a box grows by a tenth of its longer side d on every side, its surroundings are blurred with sigma = d / 10,
and a mask blurred alike blends the two. Two things differ from img2dataset 1.47. It hands its library a
kernel size and no sigma, and so blurs three times too little. And it gives all faces the sigma of the
largest, which smears the small ones' masks until they hide next to nothing: here each face has its own.

A box that cannot be understood says that there is a face, and not where. img2dataset ends with an error
there. Blurring all of the picture would hide the face, but leave a picture of nothing to be captioned and
trained on, as if all were well. So the picture is refused with a status of its own: it is counted, and with
`faces: leave`, `retry --status bad_face_box` fetches it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageFilter

from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import PictureError

Box = Sequence[float | None]
"""What should be [x0, y0, x1, y1], each 0 to 1 of the picture as it is stored, before EXIF turns it."""

UsableBox = tuple[float, ...]
"""Four of them, in order and within the picture."""

# A detector's box may overhang the edge of the picture; an end further out is in pixels, or damaged.
_LEAST_END, _MOST_END = -1.0, 2.0
_MARGIN = 0.1
_SIGMA = 0.1
# Pillow's Gaussian is three box blurs that together reach 3 sigma and some pixels: that far the mask fades,
# and from there that far the blur looks.
_REACH = 6


def usable_boxes(boxes: Sequence[Box | None] | None) -> tuple[UsableBox, ...]:
    """The boxes in order, x0 <= x1 and y0 <= y1, and cut to the picture's edges.

    Raises PictureError where one cannot be understood: it is null, not of four numbers, a point, wholly
    outside the picture, or has an end far outside, as boxes in pixels do.
    """
    return tuple(_usable(box) for box in boxes or ())


def blur_faces(picture: Image.Image, boxes: Sequence[UsableBox]) -> Image.Image:
    """Blur the boxes of an RGB picture, as `usable_boxes` gives them."""
    blurred = picture.copy()
    for box in boxes:
        x0, y0, x1, y1 = box
        left, upper = x0 * picture.width, y0 * picture.height
        right, lower = x1 * picture.width, y1 * picture.height
        side = max(right - left, lower - upper)
        more = _MARGIN * side
        grown = (left - more, upper - more, right + more, lower + more)
        _blur(blurred, _outwards(grown), sigma=_SIGMA * side)
    return blurred


def _blur(picture: Image.Image, box: tuple[int, int, int, int], *, sigma: float) -> None:
    mask = Image.new("L", picture.size)
    mask.paste(255, box)
    reach = math.ceil(_REACH * sigma) + 2
    left, upper, right, lower = box
    region = (
        max(0, left - reach),
        max(0, upper - reach),
        min(picture.width, right + reach),
        min(picture.height, lower + reach),
    )
    gaussian = ImageFilter.GaussianBlur(sigma)
    sharp = picture.crop(region)
    picture.paste(sharp.filter(gaussian), region, mask.crop(region).filter(gaussian))


def _outwards(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, upper, right, lower = box
    return math.floor(left), math.floor(upper), math.ceil(right), math.ceil(lower)


def _usable(box: Box | None) -> UsableBox:
    ends = [end for end in box or () if end is not None and _LEAST_END <= end <= _MOST_END]  # so it is no NaN
    if box is None or len(box) != 4 or len(ends) != 4:
        raise _not_understood(box)
    across, down = _within_picture(ends[0], ends[2]), _within_picture(ends[1], ends[3])
    if across is None or down is None or (across[0] == across[1] and down[0] == down[1]):
        raise _not_understood(box)
    return across[0], down[0], across[1], down[1]


def _within_picture(one: float, other: float) -> tuple[float, float] | None:
    """The part of a side that is within the picture, None where none is."""
    low, high = min(one, other), max(one, other)
    is_within = (low < 1 and high > 0) or 0 <= low == high <= 1
    return (max(low, 0.0), min(high, 1.0)) if is_within else None


def _not_understood(box: Box | None) -> PictureError:
    found = "null" if box is None else list(box)
    return PictureError(FetchStatus.BAD_FACE_BOX, f"want [x0, y0, x1, y1] of 0 to 1, found {found!s:.100}")
