"""Captions and the captions they should be → how far they agree, and which conversation template agrees most

ROUGE-L is Lin's (ROUGE: A Package for Automatic Evaluation of Summaries, 2004, section 3), over the words
that the rouge-score package cuts a text into. It is written out here because that package brings nltk, absl
and six along for a longest common subsequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WORDS = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, order=True)
class Agreement:
    """How well one template's captions repeat the published ones; each share is 0 to 1."""

    exact: float  # share of captions that are the published ones to the letter
    rouge_l: float  # mean F-measure
    template: str
    captions: int  # how many were compared; one that was not made counts as empty


def same_words(caption: str, published: str) -> bool:
    """Whether two captions are equal when leading, trailing and repeated spaces are ignored."""
    return caption.split() == published.split()


def rouge_l(caption: str, published: str) -> float:
    """F-measure of the longest common subsequence of words, 0 to 1; recall and precision weigh the same."""
    said, wanted = (_WORDS.findall(text.lower()) for text in (caption, published))
    common = _longest_common_subsequence(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rank(captions: Mapping[str, Mapping[str, str]], published: Mapping[str, str]) -> list[Agreement]:
    """Templates by agreement, the best first.

    `captions` holds template → uid → caption, `published` uid → caption. A uid without a caption from a
    template counts as an empty caption, so a template that rarely answers cannot win by its few answers.
    """
    ranked = [
        Agreement(
            exact=_mean(same_words(made.get(uid, ""), wanted) for uid, wanted in published.items()),
            rouge_l=_mean(rouge_l(made.get(uid, ""), wanted) for uid, wanted in published.items()),
            template=template,
            captions=len(published),
        )
        for template, made in captions.items()
    ]
    return sorted(ranked, key=lambda row: (-row.exact, -row.rouge_l, row.template))


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held) if held else 0.0


def _longest_common_subsequence(one: list[str], other: list[str]) -> int:
    """Its length, by dynamic programming that keeps one row of the table in memory."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, rival in enumerate(other, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == rival else max(above, row[place - 1])
            diagonal = above
    return row[-1]
