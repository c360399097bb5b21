"""text → statements about objects → how many of them are true of a scene"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields

from recap_spark.miniature.language import PLURALS
from recap_spark.miniature.world import COLOURS, GROUND_COLOURS, SHAPES, SIZES, TEXTURES, Group, Scene


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a text says about one object; None where it says nothing."""

    shape: str
    colour: str | None
    size: str | None
    count: int | None
    position: str | None


ATTRIBUTES = tuple(field.name for field in fields(Statement))
_TELLING = {"shape", "colour", "position"}

_SINGULARS = {plural: shape for shape, plural in PLURALS.items()} | {shape: shape for shape in SHAPES}
_NUMBERS = {
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "1": 1,
    "2": 2,
    "3": 3,
}
_PLACE_WORDS = {
    "top": "top",
    "upper": "top",
    "bottom": "bottom",
    "lower": "bottom",
    "left": "left",
    "right": "right",
}
_WORD = re.compile(r"[a-z0-9]+")
_WORDS_BEFORE = 4  # "three small red" is as far as an object's own words reach


def statements(text: str) -> tuple[Statement, ...]:
    """Every object a text speaks of, in its order; any text will do, a damaged one says less.

    An object's words are the few before its noun; its place follows, up to the next object or full stop.
    """
    found = []
    for sentence in re.split(r"[.;!?\n]", text.lower()):
        words = _WORD.findall(sentence)
        nouns = [at for at, word in enumerate(words) if word in _SINGULARS]
        for at, following in zip(nouns, [*nouns, len(words)][1:], strict=True):
            previous = max((noun for noun in nouns if noun < at), default=-1)
            before = words[max(previous + 1, at - _WORDS_BEFORE) : at]
            # "in the top left corner is a red circle": the place comes first.
            place = _position(words[at:following]) or (_position(words[:at]) if previous < 0 else None)
            found.append(_statement(words[at], before=before, position=place))
    return tuple(found)


def _statement(noun: str, *, before: list[str], position: str | None) -> Statement:
    known = {word: word for word in (*COLOURS, *SIZES)}
    colours = [known[word] for word in before if word in COLOURS]
    sizes = [known[word] for word in before if word in SIZES]
    counts = [_NUMBERS[word] for word in before if word in _NUMBERS]
    return Statement(
        shape=_SINGULARS[noun],
        colour=colours[-1] if colours else None,
        size=sizes[-1] if sizes else None,
        count=counts[-1] if counts else None,
        position=position,
    )


def _position(words: list[str]) -> str | None:
    places = [_PLACE_WORDS[word] for word in words if word in _PLACE_WORDS]
    down = next((word for word in places if word in ("top", "bottom")), None)
    across = next((word for word in places if word in ("left", "right")), None)
    return f"{down} {across}" if down and across else None


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How much of a text is true of a scene, and how much of the scene it mentions."""

    stated: Counter[str]  # claims by attribute
    true: Counter[str]  # those of them that hold
    mentioned: int  # objects whose shape is named rightly, and no other colour than theirs
    present: int


def truth(text: str, scene: Scene) -> Truth:
    """Judge every claim of a text; an object that is not there makes all its claims false.

    Each statement is held against the object that it fits best, and no object serves two statements.
    """
    said = statements(text)
    true: Counter[str] = Counter()
    mentioned = 0
    for at, group in _meant(said, scene=scene):
        holds = _true_claims(said[at], group)
        true.update(holds)
        mentioned += "shape" in holds and (said[at].colour is None or "colour" in holds)
    stated = Counter(name for each in said for name in ATTRIBUTES if getattr(each, name) is not None)
    return Truth(stated=stated, true=true, mentioned=mentioned, present=len(scene.groups))


def _meant(said: tuple[Statement, ...], *, scene: Scene) -> list[tuple[int, Group]]:
    """Which object each statement is about, the best fits chosen first."""
    pairs = [(at, group) for at in range(len(said)) for group in scene.groups]
    pairs.sort(key=lambda pair: -len(_true_claims(said[pair[0]], pair[1])))
    meant: dict[int, Group] = {}
    for at, group in pairs:
        # A size and a count in common are chance: what is meant shares its shape, its colour or its place.
        alike = _TELLING & set(_true_claims(said[at], group))
        if alike and at not in meant and group not in meant.values():
            meant[at] = group
    return list(meant.items())


def _true_claims(said: Statement, group: Group) -> list[str]:
    return [name for name in ATTRIBUTES if getattr(said, name) == getattr(group, name)]


def ground_is_true(text: str, scene: Scene) -> bool:
    """Whether the text names the background's colour and texture, and no others."""
    words = set(_WORD.findall(text.lower()))
    return words & set(GROUND_COLOURS) == {scene.ground} and words & set(TEXTURES) == {scene.texture}
