"""scene → picture → bytes"""

from __future__ import annotations

import io
import math
import random

from PIL import Image, ImageDraw

from recap_spark.miniature.world import SHAPES, Group, Scene

RGB = tuple[int, int, int]

_COLOURS: dict[str, RGB] = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (240, 215, 45),
    "green": (40, 165, 60),
    "blue": (45, 75, 220),
    "purple": (135, 45, 175),
    "pink": (250, 140, 195),
    "black": (20, 20, 20),
}
_GROUNDS: dict[str, RGB] = {
    "white": (246, 246, 246),
    "gray": (165, 165, 165),
    "brown": (120, 82, 52),
    "cyan": (150, 228, 232),
}
# Lengths are shares of the picture's shorter side, so a corner (half of it) holds every group.
_RADII = {"large": 0.21, "small": 0.115}
_OFFSETS = {
    1: ((0.0, 0.0),),
    2: ((-0.118, 0.0), (0.118, 0.0)),
    3: ((0.0, -0.115), (-0.118, 0.1), (0.118, 0.1)),
}
_PITCH = 0.125  # of the texture
_SMOOTH_FROM_PX = 256  # smaller pictures are drawn larger and shrunk, as a camera would, not left jagged
_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def render_scene(scene: Scene) -> Image.Image:
    """An RGB picture of `scene.width` x `scene.height` pixels; equal scenes give equal pixels."""
    chance = random.Random(f"render/{scene.number}")
    scale = max(1, math.ceil(_SMOOTH_FROM_PX / max(scene.width, scene.height)))
    wide, high = scene.width * scale, scene.height * scale
    picture = Image.new("RGB", (wide, high), _shaken(_GROUNDS[scene.ground], chance=chance))
    pen = ImageDraw.Draw(picture)
    _draw_texture(pen, scene=scene, size=(wide, high), chance=chance)
    for group in scene.groups:
        _draw_group(pen, group=group, size=(wide, high), chance=chance)
    return picture if scale == 1 else picture.resize((scene.width, scene.height), Image.Resampling.BOX)


def render_bytes(scene: Scene) -> bytes:
    """The encoded file, in the scene's own format (`scene.encoding`)."""
    buffer = io.BytesIO()
    render_scene(scene).save(buffer, _FORMATS[scene.encoding], quality=90)
    return buffer.getvalue()


def _shaken(colour: RGB, *, chance: random.Random) -> RGB:
    red, green, blue = (min(255, max(0, part + chance.randint(-9, 9))) for part in colour)
    return red, green, blue


def _draw_texture(
    pen: ImageDraw.ImageDraw, *, scene: Scene, size: tuple[int, int], chance: random.Random
) -> None:
    wide, high = size
    pitch = max(2, round(_PITCH * min(size) * chance.uniform(0.9, 1.15)))
    red, green, blue = _GROUNDS[scene.ground]
    shade = (round(red * 0.72), round(green * 0.72), round(blue * 0.72))
    phase = chance.randrange(pitch)
    lines = range(-phase, max(wide, high), pitch)
    match scene.texture:
        case "striped":
            for y in lines:
                pen.rectangle((0, y, wide, y + pitch * 0.4), fill=shade)
        case "dotted":
            r = pitch * 0.24
            for x in lines:
                for y in lines:
                    pen.ellipse((x - r, y - r, x + r, y + r), fill=shade)
        case "checked":
            for column, x in enumerate(lines):
                for row, y in enumerate(lines):
                    if (column + row) % 2:
                        pen.rectangle((x, y, x + pitch - 1, y + pitch - 1), fill=shade)
        case _:  # plain
            pass


def _draw_group(
    pen: ImageDraw.ImageDraw, *, group: Group, size: tuple[int, int], chance: random.Random
) -> None:
    wide, high = size
    unit = min(size)
    down, across = group.position.split()
    centre_x = wide * (0.25 if across == "left" else 0.75) + unit * chance.uniform(-0.02, 0.02)
    centre_y = high * (0.25 if down == "top" else 0.75) + unit * chance.uniform(-0.02, 0.02)
    radius = unit * _RADII[group.size] * chance.uniform(0.94, 1.06)
    fill = _shaken(_COLOURS[group.colour], chance=chance)
    for dx, dy in _OFFSETS[group.count]:
        _draw_shape(pen, group.shape, x=centre_x + dx * unit, y=centre_y + dy * unit, r=radius, fill=fill)


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, *, x: float, y: float, r: float, fill: RGB) -> None:
    match shape:
        case "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        case "square":
            pen.rectangle((x - 0.88 * r, y - 0.88 * r, x + 0.88 * r, y + 0.88 * r), fill=fill)
        case "triangle":
            pen.polygon(((x, y - r), (x - r, y + 0.85 * r), (x + r, y + 0.85 * r)), fill=fill)
        case "cross":
            arm = 0.3 * r
            pen.rectangle((x - r, y - arm, x + r, y + arm), fill=fill)
            pen.rectangle((x - arm, y - r, x + arm, y + r), fill=fill)
        case _:
            raise ValueError(f"want a shape of {SHAPES}, found {shape!r}")
