"""A picture and where its faces are → the picture with its faces blurred

The rule is that of ImageNet's face obfuscation (Yang et al., 2022, arXiv:2103.06191) as DataComp applies it:
a box grows by a tenth of its longer side d on every side, its surroundings are blurred with sigma = d / 10,
and a mask blurred alike blends the two. Two things differ from img2dataset 1.47. It hands its library a
kernel size and no sigma, and so blurs three times too little. And it gives all faces the sigma of the
largest, which smears the small ones' masks until they hide next to nothing: here each face has its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageFilter

Box = Sequence[float | None]
"""What should be [x0, y0, x1, y1], each 0 to 1 of the picture as it is stored, before EXIF turns it."""

UsableBox = tuple[float, ...]
"""Four of them, in order and within the picture."""

_MARGIN = 0.1
_SIGMA = 0.1
# Pillow's Gaussian is three box blurs that together reach 3 sigma and some pixels: that far the mask fades,
# and from there that far the blur looks.
_REACH = 6


def usable_boxes(boxes: Sequence[Box | None] | None) -> tuple[UsableBox, ...]:
    """The boxes that name a part of the picture: x0 <= x1 and y0 <= y1, cut to the picture's edges.

    A box that is null, or not of four numbers, is left out; the other boxes and the picture are used all the
    same.
    """
    return tuple(_ordered(box) for box in boxes or () if box is not None and _is_a_box(box))


def blur_faces(picture: Image.Image, boxes: Sequence[UsableBox]) -> Image.Image:
    """Blur the boxes of an RGB picture, as `usable_boxes` gives them."""
    blurred = picture.copy()
    for box in boxes:
        x0, y0, x1, y1 = box
        left, upper = x0 * picture.width, y0 * picture.height
        right, lower = x1 * picture.width, y1 * picture.height
        side = max(right - left, lower - upper)
        if side > 0:
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


def _is_a_box(box: Box) -> bool:
    return len(box) == 4 and all(end is not None and not math.isnan(end) for end in box)


def _ordered(box: Box) -> UsableBox:
    x0, y0, x1, y1 = (min(max(end, 0.0), 1.0) for end in box if end is not None)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
