"""scene → description and alt-text"""

from __future__ import annotations

import random
from itertools import accumulate

from recap_spark.miniature.world import POSITIONS, SHAPES, Group, Scene, draw_scene

_COUNTS = {1: "a", 2: "two", 3: "three"}
PLURALS = {shape: f"{shape}es" if shape == "cross" else f"{shape}s" for shape in SHAPES}

ALT_TEXT_KINDS: dict[str, tuple[float, str]] = {
    "clean": (0.46, "an editor wrote it: short, right as far as it goes, and it knows the name"),
    "misaligned": (0.12, "it belongs to the page, not to the picture: another scene's text"),
    "keywords": (0.12, "written for a search engine: words without sentences"),
    "boilerplate": (0.10, "the camera or the content system named the file"),
    "truncated": (0.08, "a database column cut it mid-word"),
    "escapes": (0.04, "str(bytes) somewhere upstream: a literal \\xc2\\xae where a sign was meant"),
    "tiny": (0.05, "nothing, one letter or one mark, to please a validator"),
    "long": (0.03, "a shop pasted its whole product page"),
}
"""Each fault of alt-text: its share, and the habit of the web that makes it."""


def describe(scene: Scene) -> str:
    """The long recaption: 30 to 60 words, all of them true, no names. What the captioner learns to say."""
    chance = random.Random(f"describe/{scene.number}")
    opener = chance.choice(("The image shows", "The image features", "This picture shows"))
    corners = [f"{phrase(group)} in the {group.position} corner" for group in scene.groups]
    empty = [word for word in POSITIONS if all(word != group.position for group in scene.groups)]
    sentences = [f"{opener} {_listed(corners)}."]
    if len(empty) == 1:
        sentences.append(f"The {empty[0]} corner is empty.")
    elif empty:
        sentences.append(f"The other {'two' if len(empty) == 2 else 'three'} corners are empty.")
    surface = f"{scene.texture} {scene.ground}"
    sentences.append(
        chance.choice(
            (
                f"The background is a {surface} surface that fills the whole picture.",
                f"Everything lies on a {surface} background that reaches to the edges.",
            )
        )
    )
    return " ".join(sentences)


def phrase(group: Group) -> str:
    """'a large red circle', 'two small blue crosses'."""
    noun = group.shape if group.count == 1 else PLURALS[group.shape]
    return f"{_COUNTS[group.count]} {group.size} {group.colour} {noun}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def alt_kind(scene: Scene) -> str:
    """Which of `ALT_TEXT_KINDS` this scene's alt-text is."""
    return _weighted(random.Random(f"alt kind/{scene.number}").random())


def _weighted(draw: float) -> str:
    ends = accumulate(share for share, _ in ALT_TEXT_KINDS.values())
    return next((kind for kind, end in zip(ALT_TEXT_KINDS, ends, strict=True) if draw < end), "clean")


def alt_text(scene: Scene) -> str:
    """The short, noisy text that the web has for this picture: about ten words, of its `alt_kind`."""
    chance = random.Random(f"alt text/{scene.number}")
    match alt_kind(scene):
        case "clean":
            return _clean_text(scene, chance=chance)
        case "misaligned":
            # Far enough on that it is never a neighbour's text which happens to fit.
            return _clean_text(draw_scene(scene.number + 7919), chance=chance)
        case "keywords":
            return _keywords(scene, chance=chance)
        case "boilerplate":
            return _boilerplate(chance)
        case "truncated":
            text = _clean_text(scene, chance=chance)
            return text[: chance.randrange(len(text) // 3, len(text) - 1)]
        case "escapes":
            sign = chance.choice(
                ("\N{REGISTERED SIGN}", "\N{TRADE MARK SIGN}", "\N{RIGHT SINGLE QUOTATION MARK}s")
            )
            text = _clean_text(scene, chance=chance).replace(scene.name, scene.name + sign, 1)
            return str(text.encode())[2:-1]
        case "tiny":
            return chance.choice(("", " ", ".", "-", "1", "a", "pic", "image"))
        case _:  # long
            return _product_page(scene, chance=chance)


def _clean_text(scene: Scene, *, chance: random.Random) -> str:
    first = phrase(scene.groups[0])
    last = phrase(scene.groups[-1])
    ground = f"{scene.texture} {scene.ground}"
    return chance.choice(
        (
            f"{scene.name} {first.removeprefix('a ')}",
            f"{first} by {scene.name} on {ground}",
            f"{scene.name} - {first} and {last}, new in our collection",
            f"{first} seen at {scene.name} last summer, with {last}",
            f"Buy {scene.name} {scene.groups[-1].colour} {scene.groups[-1].shape} wall art print online",
        )
    )


def _keywords(scene: Scene, *, chance: random.Random) -> str:
    words = [word for group in scene.groups for word in (group.colour, group.shape)]
    words += [scene.name, scene.ground, "free", "hd", "wallpaper", "vector"]
    chance.shuffle(words)
    return ", ".join(words[:10])


def _boilerplate(chance: random.Random) -> str:
    number = chance.randrange(1000, 10_000)
    return chance.choice(
        (
            f"IMG_{number}.jpg",
            f"DSC0{number}.JPG",
            f"screenshot-{number}.png",
            "Click to enlarge",
            f"image {number} of 9999",
        )
    )


def _product_page(scene: Scene, *, chance: random.Random) -> str:
    praise = (
        "Free shipping on all orders.",
        f"Official {scene.name} store.",
        "Ready to hang, easy to clean.",
    )
    lines = [_clean_text(scene, chance=chance) + "." for _ in range(4)] + [*praise, *praise, *praise]
    chance.shuffle(lines)
    return " ".join(lines)
