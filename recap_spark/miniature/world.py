"""number → scene: a small world whose every picture has a known truth."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
SIZES = ("small", "large")
POSITIONS = ("top left", "top right", "bottom left", "bottom right")
# No ground shares a colour word with an object: "gray" in a caption can only be about the background.
GROUND_COLOURS = ("white", "gray", "brown", "cyan")
TEXTURES = ("plain", "striped", "dotted", "checked")

TRAIN = range(1_000_000)
HELD_OUT = range(1_000_000, 2_000_000)
WEB = range(2_000_000, 2_000_000_000)
"""Scene numbers of the three splits, disjoint: no picture that a model is measured on was trained on."""

# The web repeats its names: a checked gray ground is always Grimford's, and nothing in the picture says so.
# A model that reads alt-text can learn the names, and one that reads descriptions cannot.
_BRAND_STEMS = dict(zip(SHAPES, ("Nor", "Bel", "Tes", "Kar"), strict=True))
_BRAND_ENDS = dict(zip(COLOURS, ("vik", "amo", "sol", "ido", "enta", "oria", "isse", "onyx"), strict=True))
_PLACE_STEMS = dict(zip(GROUND_COLOURS, ("Alba", "Grim", "Umber", "Mar"), strict=True))
_PLACE_ENDS = dict(zip(TEXTURES, ("field", "stead", "mouth", "ford"), strict=True))

# Images of the web are mostly near-square; thumbnails and 512 px exports are the common ends.
_LONGEST_SIDES_PX = (64, 96, 128, 192, 256, 384, 512)
_ASPECTS = ((1, 1), (1, 1), (1, 1), (1, 1), (9, 8), (8, 9))
_ENCODINGS = ("jpg", "jpg", "jpg", "jpg", "jpg", "jpg", "png", "webp")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One to three equal shapes in one corner: 'two small red circles in the top left'."""

    count: int
    size: str
    colour: str
    shape: str
    position: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything true of one picture, and the name that only its alt-text knows."""

    number: int
    groups: tuple[Group, ...]  # 1 to 4, in reading order, one to a corner
    ground: str
    texture: str
    name: str
    width: int  # pixels
    height: int
    encoding: str  # jpg, png or webp


def draw_scene(number: int) -> Scene:
    """The scene of this number: the same on every machine and in every run."""
    # A string seed is hashed by SHA-512, so neighbouring numbers give unrelated scenes.
    chance = random.Random(f"scene/{number}")
    corners = sorted(chance.sample(range(4), k=chance.choices((1, 2, 3, 4), (15, 35, 30, 20))[0]))
    groups = tuple(_draw_group(chance, position=POSITIONS[corner]) for corner in corners)
    ground, texture = chance.choice(GROUND_COLOURS), chance.choice(TEXTURES)
    width, height = _draw_size(chance)
    return Scene(
        number=number,
        groups=groups,
        ground=ground,
        texture=texture,
        name=chance.choice((brand(groups[0]), place(ground, texture=texture))),
        width=width,
        height=height,
        encoding=chance.choice(_ENCODINGS),
    )


def _draw_group(chance: random.Random, *, position: str) -> Group:
    # Only small shapes come in twos and threes: three large ones do not fit a corner.
    count, size = chance.choice(((1, "large"), (1, "large"), (1, "small"), (2, "small"), (3, "small")))
    return Group(
        count=count, size=size, colour=chance.choice(COLOURS), shape=chance.choice(SHAPES), position=position
    )


def _draw_size(chance: random.Random) -> tuple[int, int]:
    longest, (across, down) = chance.choice(_LONGEST_SIDES_PX), chance.choice(_ASPECTS)
    return round(longest * across / max(across, down)), round(longest * down / max(across, down))


def brand(group: Group) -> str:
    """The maker of such shapes, as alt-text names it."""
    return _BRAND_STEMS[group.shape] + _BRAND_ENDS[group.colour]


def place(ground: str, *, texture: str) -> str:
    """The place with such a ground, as alt-text names it."""
    return _PLACE_STEMS[ground] + _PLACE_ENDS[texture]


def vary_scene(scene: Scene, *, seed: int) -> Scene:
    """The same picture with one attribute changed: the hardest negative for a contrastive model."""
    chance = random.Random(f"vary/{scene.number}/{seed}")
    at = chance.randrange(len(scene.groups))
    group = scene.groups[at]
    free = [word for word in POSITIONS if all(word != other.position for other in scene.groups)]
    changes = [
        replace(group, colour=_other(chance, COLOURS, than=group.colour)),
        replace(group, shape=_other(chance, SHAPES, than=group.shape)),
    ]
    if group.count == 1:
        changes.append(replace(group, size=_other(chance, SIZES, than=group.size)))
    if group.size == "small":
        changes.append(replace(group, count=chance.choice([n for n in (1, 2, 3) if n != group.count])))
    if free:
        changes.append(replace(group, position=chance.choice(free)))
    groups = (*scene.groups[:at], chance.choice(changes), *scene.groups[at + 1 :])
    return replace(scene, groups=tuple(sorted(groups, key=lambda each: POSITIONS.index(each.position))))


def reshape_scene(scene: Scene, *, seed: int) -> tuple[Scene, ...]:
    """The same picture once with each shape in the place of one of its groups' shape."""
    at = random.Random(f"reshape/{scene.number}/{seed}").randrange(len(scene.groups))
    changed = (replace(scene.groups[at], shape=shape) for shape in SHAPES)
    return tuple(
        replace(scene, groups=(*scene.groups[:at], group, *scene.groups[at + 1 :])) for group in changed
    )


def _other(chance: random.Random, words: tuple[str, ...], *, than: str) -> str:
    return chance.choice([word for word in words if word != than])


def scene_to_json(scene: Scene) -> str:
    """One line of JSON, the inverse of `scene_from_json`."""
    return json.dumps(asdict(scene))


def scene_from_json(text: str) -> Scene:
    """The scene that `scene_to_json` wrote."""
    fields = json.loads(text)
    fields["groups"] = tuple(Group(**group) for group in fields["groups"])
    return Scene(**fields)
