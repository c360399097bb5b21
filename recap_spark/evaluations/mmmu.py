"""MMMU's validation questions + a captioner → the share of multiple-choice questions answered rightly

Yue et al., 2024 (arXiv 2311.16502); files and rules as in MMMU/MMMU on the hub and MMMU-Benchmark/MMMU.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from recap_spark.errors import InputError
from recap_spark.evaluations.answers import Question

_COLUMNS = ("id", "question", "options", "answer", "question_type", "image_1", "image_2")
_FEW_WORDS = 5  # an answer of more words may spell an option out instead of naming its letter
_TRIMMED = ",.!?;:'"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One multiple-choice question."""

    key: str  # validation_Accounting_1
    subject: str
    question: str
    options: tuple[str, ...]
    answer: str  # a letter
    picture: bytes
    has_more_pictures: bool


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How many of a subject's questions were answered rightly, and how many were guessed or half seen."""

    questions: int
    right: int
    guessed: int
    half_seen: int  # of more than one picture

    @property
    def share(self) -> float:
        return self.right / self.questions


def read_choices(folder: Path) -> list[Choice]:
    """SUBJECT/validation-*.parquet, multiple-choice questions only. Raises InputError for other files."""
    files = sorted(folder.glob("*/validation-*.parquet"))
    if not files:
        raise InputError(f"{folder}: want MMMU's SUBJECT/validation-*.parquet, found none")
    return [choice for file in files for choice in _read(file)]


def as_question(choice: Choice, *, form: str) -> Question:
    """`form` has {question} and {options}; the options come as `(A) …`, a line each.

    A question with several pictures is asked about its first, as captioners of one picture are measured.
    """
    listed = "\n".join(
        f"({letter}) {text}" for letter, text in zip(letters(choice), choice.options, strict=True)
    )
    prompt = form.replace("{options}", listed).replace("{question}", choice.question)
    return Question(choice.key, choice.picture, prompt)


def letters(choice: Choice) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choice.options)]


def chosen(said: str, choice: Choice) -> str | None:
    """The letter that an answer names, or None where it names none (eval_utils.py).

    `(B)` goes before a `B` that stands alone, and that before an option spelt out in a longer answer; of
    several, the one that is named last.
    """
    padded = f" {said.strip().strip(_TRIMMED)} "
    in_brackets = {letter: padded.rfind(f"({letter})") for letter in letters(choice)}
    standing_alone = {letter: padded.rfind(f" {letter} ") for letter in letters(choice)}
    found = _last(in_brackets) or _last(standing_alone)
    if found is None and len(padded.split()) > _FEW_WORDS:
        lower = padded.lower()
        spelt = zip(letters(choice), choice.options, strict=True)
        found = _last({letter: lower.rfind(text.lower()) for letter, text in spelt})
    return found


def guess(choice: Choice) -> str:
    """A letter for an answer that names none: drawn by the question's id, so a rerun draws it again."""
    draw = int.from_bytes(hashlib.sha256(choice.key.encode()).digest()[:8], "big")
    return letters(choice)[draw % len(choice.options)]


def mark(choices: Sequence[Choice], said: Sequence[str]) -> dict[str, Mark]:
    """By subject, and `all` over every question. An answer that names no letter is guessed, as published."""
    questions, right, guessed, half_seen = (Counter[str]() for _ in range(4))
    for choice, text in zip(choices, said, strict=True):
        named = chosen(text, choice)
        for name in (choice.subject, "all"):
            questions[name] += 1
            right[name] += (named or guess(choice)) == choice.answer
            guessed[name] += named is None
            half_seen[name] += choice.has_more_pictures
    return {
        name: Mark(
            questions=questions[name],
            right=right[name],
            guessed=guessed[name],
            half_seen=half_seen[name],
        )
        for name in sorted(questions)
    }


def _last(places: dict[str, int]) -> str | None:
    found = {letter: place for letter, place in places.items() if place >= 0}
    return max(found, key=lambda letter: found[letter]) if found else None


def _read(file: Path) -> list[Choice]:
    present = set(pq.read_schema(file).names)
    if not present.issuperset(_COLUMNS):
        raise InputError(f"{file}: want columns {', '.join(_COLUMNS)}, found {', '.join(sorted(present))}")
    rows = pq.read_table(file, columns=list(_COLUMNS)).to_pylist()
    return [
        Choice(
            key=row["id"],
            subject=file.parent.name,
            question=row["question"],
            options=_options(row["options"], where=f"{file}: {row['id']}"),
            answer=row["answer"],
            picture=row["image_1"]["bytes"],
            has_more_pictures=row["image_2"] is not None,
        )
        for row in rows
        if row["question_type"] == "multiple-choice"
    ]


def _options(text: str, *, where: str) -> tuple[str, ...]:
    """The column holds a Python list written out: `['6', "doesn't"]`."""
    try:
        options = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{where}: options: want a list of texts, found {text!r}") from error
    if not isinstance(options, list) or not options:
        raise InputError(f"{where}: options: want a list of texts, found {text!r}")
    return tuple(str(option) for option in options)
