"""Pixels against the processors that they replace."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from recap_spark.miniature.render import render_scene
from recap_spark.miniature.world import draw_scene
from recap_spark.models.pixels import OPENAI_FILL, OPENAI_MEAN, OPENAI_STD, fit_pixels, normalise, to_pixels


def picture(*, size: tuple[int, int]) -> Image.Image:
    return render_scene(draw_scene(11)).resize(size)


def theirs(image: Image.Image, *, side: int) -> torch.Tensor:
    """uint8-valued [3, side, side] of CLIPImageProcessor, before normalisation."""
    processor = CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_normalize=False,
    )
    return processor(image, return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("size", [(512, 384), (300, 500), (96, 96), (64, 64), (65, 64)])
def test_padded_pixels_are_clip_processors_on_a_padded_picture(size):
    image = picture(size=size)
    square = Image.new("RGB", (max(size), max(size)), OPENAI_FILL)
    square.paste(image, ((max(size) - size[0]) // 2, (max(size) - size[1]) // 2))
    ours = to_pixels(image, side=64, fill=OPENAI_FILL)
    assert ours.dtype == torch.uint8
    assert ours.shape == (3, 64, 64)
    assert (ours.float() / 255 - theirs(square, side=64)).abs().mean() < 1 / 255


@pytest.mark.parametrize("size", [(512, 384), (300, 500), (64, 64), (333, 222)])
def test_fitted_pixels_are_clip_processors(size):
    image = picture(size=size)
    ours = fit_pixels(image, side=64)
    assert ours.shape == (3, 64, 64)
    assert (ours.float() / 255 - theirs(image, side=64)).abs().mean() < 1 / 255


def test_the_pad_has_the_fill_colour_and_the_picture_is_centred():
    pixels = to_pixels(Image.new("RGB", (64, 32), (255, 0, 0)), side=64, fill=OPENAI_FILL)
    assert pixels[:, 0, 0].tolist() == list(OPENAI_FILL)
    assert pixels[:, 63, 63].tolist() == list(OPENAI_FILL)
    assert pixels[:, 32, 32].tolist() == [255, 0, 0]
    assert pixels[:, 16, 0].tolist() == [255, 0, 0]


def test_the_fill_is_the_openai_mean():
    assert tuple(int(mean * 255) for mean in OPENAI_MEAN) == OPENAI_FILL


def test_normalised_pixels_have_the_mean_at_zero():
    fill = torch.tensor(OPENAI_FILL, dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    normal = normalise(fill, mean=OPENAI_MEAN, std=OPENAI_STD)
    assert normal.shape == (2, 3, 4, 4)
    assert normal.abs().max() < 1 / 255 / min(OPENAI_STD)


def test_a_picture_that_is_not_rgb_is_refused():
    with pytest.raises(ValueError, match="found mode L"):
        to_pixels(Image.new("L", (8, 8)), side=8, fill=OPENAI_FILL)
