"""Sizes and pixels of img2dataset's resize modes

    keep_ratio          the shorter side becomes image_size
    center_crop         the same, then the square in the middle
    keep_ratio_largest  the longer side becomes image_size
    border              the same, then white around it to a square
    no                  as it is

With `resize_only_if_bigger`, a picture whose side in question is image_size or less is neither resized nor
cropped nor bordered.
"""

from __future__ import annotations

from PIL import Image

from recap_spark.settings.pictures import Interpolation, PictureRules
from recap_spark.workers.pictures import drafts

Size = tuple[int, int]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def target_size(size: Size, rules: PictureRules) -> Size | None:
    """What a picture of this size is resized to, before it is cropped or bordered; None if it is not."""
    if rules.resize_mode == "no":
        return None
    side = min(size) if rules.resize_mode in ("keep_ratio", "center_crop") else max(size)
    if rules.resize_only_if_bigger and side <= rules.image_size:
        return None
    width, height = (max(1, round(pixels * rules.image_size / side)) for pixels in size)
    return width, height


def interpolation(size: Size, target: Size, rules: PictureRules) -> Interpolation:
    return rules.downscale_interpolation if max(target) < max(size) else rules.upscale_interpolation


def draft(image: Image.Image, target: Size, *, by: Interpolation) -> tuple[float, float, float, float]:
    """Let an undecoded JPEG decode to 1/2, 1/4 or 1/8 where that leaves enough for the target. Returns the
    part of the decoded pixels that is the picture: its sides need not divide by 8.

    libjpeg's scaled inverse DCT keeps a block's low frequencies: on photographs at 1/2, 43 to 60 dB from the
    mean of every 2 x 2 pixels, and faster than decoding all. For an area's mean that is enough; a kernel
    needs twice the target's size to be hard to tell from resampling all (Pillow's `reducing_gap` of 2.0).
    """
    whole = (0.0, 0.0, float(image.width), float(image.height))
    if by == "nearest":
        return whole
    gap = 1 if by == "area" else 2
    return drafts.draft(image, None, (target[0] * gap, target[1] * gap)) or whole


def resize(
    picture: Image.Image, target: Size, *, box: tuple[float, float, float, float], by: Interpolation
) -> Image.Image:
    """Resample what lies in `box` to the target. All kernels but `nearest` antialias; OpenCV's do not."""
    extent = (box[2] - box[0], box[3] - box[1])
    if extent == target:
        return picture
    if by != "area":
        return picture.resize(target, _FILTERS[by], box=box)
    if target[0] > extent[0]:  # as OpenCV's "area" enlarges
        return picture.resize(target, Image.Resampling.BILINEAR, box=box)
    across, down = extent[0] / target[0], extent[1] / target[1]
    if extent == picture.size and across.is_integer() and down.is_integer():
        return picture.reduce((int(across), int(down)))
    # Pillow's box kernel takes or leaves whole pixels: 36 to 45 dB from the true mean where the ratio is no
    # integer, against 50 to 54 dB for the Hamming kernel of the same width.
    return picture.resize(target, Image.Resampling.HAMMING, box=box)


def frame(picture: Image.Image, rules: PictureRules) -> Image.Image:
    """Crop or border a picture that has been resized, where the mode says so."""
    width, height = picture.size
    side = rules.image_size
    if rules.resize_mode == "center_crop":
        left, upper = (width - side) // 2, (height - side) // 2
        return picture.crop((left, upper, left + side, upper + side))
    if rules.resize_mode == "border":
        square = Image.new("RGB", (side, side), "white")
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
        return square
    return picture
