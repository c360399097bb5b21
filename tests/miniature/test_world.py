"""Scenes and their pictures."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from recap_spark.miniature.render import render_bytes, render_scene
from recap_spark.miniature.world import (
    HELD_OUT,
    TRAIN,
    WEB,
    Group,
    draw_scene,
    scene_from_json,
    scene_to_json,
    vary_scene,
)


def test_a_number_always_draws_the_same_scene_and_the_same_pixels():
    assert draw_scene(7) == draw_scene(7)
    assert render_bytes(draw_scene(7)) == render_bytes(draw_scene(7))


def test_no_number_belongs_to_two_splits():
    ends = [(split.start, split.stop) for split in (TRAIN, HELD_OUT, WEB)]
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ends))


def test_a_scene_has_one_to_four_objects_each_in_a_corner_of_its_own():
    counts = set()
    for number in range(200):
        corners = [group.position for group in draw_scene(number).groups]
        assert len(set(corners)) == len(corners)
        counts.add(len(corners))
    assert counts == {1, 2, 3, 4}


def test_pictures_have_the_scenes_size_and_lie_between_48_and_512_pixels():
    for number in range(60):
        scene = draw_scene(number)
        assert render_scene(scene).size == (scene.width, scene.height)
        assert 64 <= max(scene.width, scene.height) <= 512
        assert min(scene.width, scene.height) >= 48


@pytest.mark.parametrize(("encoding", "format_"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_bytes_are_a_file_of_the_scenes_encoding(encoding, format_):
    picture = Image.open(io.BytesIO(render_bytes(replace(draw_scene(1), encoding=encoding))))
    assert picture.format == format_


def test_the_colour_of_an_object_is_the_colour_of_its_pixels():
    circle = Group(count=1, size="large", colour="red", shape="circle", position="top left")
    scene = replace(draw_scene(0), groups=(circle,), ground="white", width=128, height=128)
    pixels = np.asarray(render_scene(scene)).astype(int)
    assert np.abs(pixels[32, 32] - (215, 35, 40)).max() <= 9
    assert np.abs(pixels[96, 96] - (246, 246, 246)).max() <= 9


def test_the_name_is_not_drawn():
    scene = draw_scene(3)
    assert render_bytes(scene) == render_bytes(replace(scene, name="Elsewhere"))


def test_a_varied_scene_differs_in_one_object():
    for number in range(100):
        scene = draw_scene(number)
        varied = vary_scene(scene, seed=number)
        assert len(set(scene.groups) - set(varied.groups)) == 1
        assert replace(varied, groups=scene.groups) == scene


def test_json_gives_a_scene_back():
    assert scene_from_json(scene_to_json(draw_scene(5))) == draw_scene(5)
