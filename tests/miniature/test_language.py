"""What is said of a scene, and how it is judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from statistics import mean

import pytest

from recap_spark.miniature.language import ALT_TEXT_KINDS, alt_kind, alt_text, describe
from recap_spark.miniature.statements import ground_is_true, statements, truth
from recap_spark.miniature.world import Group, draw_scene

CIRCLE = Group(count=1, size="large", colour="red", shape="circle", position="top left")
CROSSES = Group(count=2, size="small", colour="blue", shape="cross", position="bottom right")
SCENE = replace(draw_scene(0), groups=(CIRCLE, CROSSES), ground="gray", texture="striped", name="Norvik")


def test_a_description_states_every_attribute_of_every_object_and_nothing_false():
    for number in range(300):
        scene = draw_scene(number)
        judged = truth(describe(scene), scene)
        assert judged.true == judged.stated
        assert judged.stated.total() == 5 * judged.present
        assert judged.mentioned == judged.present
        assert ground_is_true(describe(scene), scene)
        assert scene.name not in describe(scene)


def test_descriptions_have_thirty_words_or_more_and_alt_texts_ten_on_average():
    scenes = [draw_scene(number) for number in range(2000)]
    assert min(len(describe(scene).split()) for scene in scenes) >= 30
    assert 40 < mean(len(describe(scene).split()) for scene in scenes) < 50
    assert 9 < mean(len(alt_text(scene).split()) for scene in scenes) < 12


def test_the_kinds_of_alt_text_come_in_their_stated_shares():
    assert sum(share for share, _ in ALT_TEXT_KINDS.values()) == pytest.approx(1)
    drawn = Counter(alt_kind(draw_scene(number)) for number in range(4000))
    for kind, (share, _) in ALT_TEXT_KINDS.items():
        assert drawn[kind] / 4000 == pytest.approx(share, abs=0.03)


def test_each_kind_of_alt_text_has_its_fault():
    texts = {}
    for number in range(400):
        scene = draw_scene(number)
        texts.setdefault(alt_kind(scene), []).append((alt_text(scene), scene))
    assert all("\\x" in text and text.isascii() for text, _ in texts["escapes"])
    assert all(len(text) <= 5 for text, _ in texts["tiny"])
    assert all(len(text.split()) > 60 for text, _ in texts["long"])
    assert all(text.count(", ") >= 5 for text, _ in texts["keywords"])
    assert all(scene.name in text or scene.groups[0].shape in text for text, scene in texts["clean"])
    assert not any(statements(text) for text, _ in texts["boilerplate"])


def test_the_parser_reads_counts_sizes_colours_and_places():
    said = statements(
        "Two small blue crosses in the bottom right corner, and a large red circle at the top left."
    )
    assert [(each.count, each.size, each.colour, each.shape, each.position) for each in said] == [
        (2, "small", "blue", "cross", "bottom right"),
        (1, "large", "red", "circle", "top left"),
    ]


def test_a_place_may_stand_before_its_object():
    (said,) = statements("In the upper left corner there is a red circle.")
    assert said.position == "top left"


def test_a_wrong_attribute_is_one_false_statement():
    judged = truth("A large green circle in the top left corner.", SCENE)
    assert judged.stated - judged.true == Counter(colour=1)
    assert judged.mentioned == 0


def test_an_object_that_is_not_there_makes_all_its_statements_false():
    judged = truth("A large red circle in the top left. A small pink square in the top right.", SCENE)
    assert judged.true.total() == 5
    assert judged.stated.total() == 10


def test_no_object_is_mentioned_twice():
    assert truth("A red circle. A red circle. A red circle.", SCENE).mentioned == 1


def test_a_name_and_a_shape_mention_an_object_without_its_colour():
    assert truth("Norvik crosses", SCENE).mentioned == 1


@pytest.mark.parametrize(
    "text",
    ["", "   ", "IMG_2041.jpg", "\\xc2\\xae", "\x00\ud800", "a large red circ", "top left", "9" * 10_000],
)
def test_a_text_that_says_nothing_mentions_nothing_and_raises_nothing(text):
    judged = truth(text, SCENE)
    assert (judged.mentioned, judged.stated.total(), judged.present) == (0, 0, 2)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("on a striped gray background", True),
        ("on a plain gray background", False),
        ("gray stripes", False),
        ("", False),
    ],
)
def test_a_background_is_right_when_colour_and_texture_are(text, right):
    assert ground_is_true(text, SCENE) is right
