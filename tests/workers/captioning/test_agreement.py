"""ROUGE-L against values worked out by hand, and templates in the order of their agreement."""

import pytest

from recap_spark.workers.captioning.agreement import rank, rouge_l, same_words


@pytest.mark.parametrize(
    ("caption", "published", "score"),
    [
        # Lin 2004, section 3.1: the longest common subsequence is 3 of 4 words, then 2 of 4.
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("A red cube.", "a red cube", 1.0),
        ("a b c d", "a c", 2 * 2 / 6),
        ("a a a", "a", 2 * 1 / 4),
        ("nothing alike", "quite other words", 0.0),
        ("", "a red cube", 0.0),
        ("", "", 0.0),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(caption, published, score):
    assert rouge_l(caption, published) == pytest.approx(score)
    assert rouge_l(published, caption) == pytest.approx(score)


def test_an_exact_match_is_one_of_every_letter_and_of_no_particular_spaces():
    assert same_words(" A cube.\nIt is red. ", "A cube. It is red.")
    assert not same_words("a cube. It is red.", "A cube. It is red.")
    assert not same_words("", "A cube.")


def test_templates_are_ranked_by_exact_match_and_then_by_rouge_l():
    published = {"1": "a red cube", "2": "a blue ball"}
    captions = {
        "near": {"1": "a red cube here", "2": "a blue ball here"},
        "far": {"1": "hello", "2": "hello"},
        "exact once": {"1": "a red cube", "2": "hello"},
        "nearer": {"1": "the red cube", "2": "a blue ball!"},
    }
    ranked = rank(captions, published)
    assert [row.template for row in ranked] == ["exact once", "near", "nearer", "far"]
    assert [row.exact for row in ranked] == [0.5, 0.0, 0.0, 0.0]
    assert ranked[0].rouge_l == pytest.approx(0.5)
    assert {row.captions for row in ranked} == {2}


def test_a_template_gains_nothing_by_what_it_leaves_out():
    published = {"1": "a red cube", "2": "a blue ball"}
    ranked = rank({"seldom": {"1": "a red cube"}, "both": published}, published)
    assert [(row.template, row.exact) for row in ranked] == [("both", 1.0), ("seldom", 0.5)]
