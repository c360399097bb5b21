"""picture → pixels: the square pad, the resize and the normalisation that CLIP towers expect."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

# openai/CLIP, clip.py `_transform`: the channel means and deviations of its training images, on a 0..1 scale.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

# LLaVA, mm_utils.py `expand2square`: int(mean * 255) for each channel.
OPENAI_FILL = (122, 116, 104)

# Padded, this is 268 MB in Pillow: what is longer is shrunk before it is padded.
_LONGEST_PADDED = 8192  # pixels
_WIDEST_CROPPED = 4  # long sides to one short side; beyond it only the middle can be in the crop

# b batch, s side, h height, w width


def to_pixels(picture: Image.Image, *, side: int, fill: tuple[int, int, int]) -> Tensor:
    """RGB picture of any shape → uint8 [3, side, side]: padded to a centred square, then resized.

    LLaVA-1.5's `image_aspect_ratio: pad` (mm_utils.py `expand2square`), so nothing of the picture is cut off.
    """
    wide, high = picture.size
    if max(wide, high) > _LONGEST_PADDED:
        shrink = _LONGEST_PADDED / max(wide, high)
        wide, high = max(1, round(wide * shrink)), max(1, round(high * shrink))
        picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    longest = max(wide, high)
    if wide != high:
        square = Image.new("RGB", (longest, longest), fill)
        square.paste(picture, ((longest - wide) // 2, (longest - high) // 2))
        picture = square
    return _resized(_channels(picture), high=side, wide=side)


def fit_pixels(picture: Image.Image, *, side: int) -> Tensor:
    """RGB picture of any shape → uint8 [3, side, side], as CLIP does it: shorter side, then centre crop."""
    wide, high = picture.size
    shortest = min(wide, high)
    if max(wide, high) > _WIDEST_CROPPED * shortest:
        kept_wide, kept_high = (min(length, _WIDEST_CROPPED * shortest) for length in (wide, high))
        left, top = (wide - kept_wide) // 2, (high - kept_high) // 2
        picture = picture.crop((left, top, left + kept_wide, top + kept_high))
        wide, high = picture.size
    # Truncated, not rounded, as transformers' get_resize_output_image_size does.
    new_wide, new_high = int(side * wide / shortest), int(side * high / shortest)
    pixels_3hw = _resized(_channels(picture), high=new_high, wide=new_wide)
    top, left = (new_high - side) // 2, (new_wide - side) // 2
    return pixels_3hw[:, top : top + side, left : left + side].contiguous()


def normalise(batch_uint8: Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 [B, 3, S, S] → float32 [B, 3, S, S] on the same device: bytes cross to a GPU, floats do not."""
    mean_3 = torch.tensor(mean, device=batch_uint8.device).view(3, 1, 1)
    std_3 = torch.tensor(std, device=batch_uint8.device).view(3, 1, 1)
    return (batch_uint8.float() / 255 - mean_3) / std_3


def _channels(picture: Image.Image) -> Tensor:
    if picture.mode != "RGB":
        raise ValueError(f"pixels: want an RGB picture, found mode {picture.mode}")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # [3, H, W], channels last in memory


def _resized(pixels_3hw: Tensor, *, high: int, wide: int) -> Tensor:
    if pixels_3hw.shape[1:] == (high, wide):
        return pixels_3hw.contiguous()
    # On uint8 with antialias this is Pillow's bicubic within rounding, at almost twice its speed.
    size = (high, wide)
    return interpolate(pixels_3hw[None], size=size, mode="bicubic", antialias=True, align_corners=False)[
        0
    ].contiguous()
