"""MM-Vet's questions + a captioner + a judge → scores from 0 to 100 by capability

Yu et al., 2023 (arXiv 2308.02490); files as in yuweihao/MM-Vet: mm-vet.json beside a folder of images. The
paper's judge is gpt-4-0613 under a prompt of its own; a score by another judge or prompt is comparable with
those by the same only. The prompt here is this project's own, in the published form: a rubric, a table of
worked examples, and a last row that lacks its score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recap_spark.errors import InputError
from recap_spark.evaluations.answers import Question
from recap_spark.workers.chat.client import ChatClient
from recap_spark.workers.chat.replies import RefusedError, UnansweredError

_SCORE = re.compile(r"\s*(0(?:\.\d+)?|1(?:\.0+)?)(?![\d.]*\d)")
_JUDGED_TOKENS = 8
_AGAIN = "\nThe score, as a number from 0.0 to 1.0: "


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question, with what a right answer says."""

    key: str  # v1_0
    question: str
    answer: str  # parts joined by <AND>, alternatives by <OR>
    capabilities: tuple[str, ...]  # of rec, ocr, know, gen, spat, math
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The mean of the scores of some tasks, from 0 to 100; what the judge left unscored counts as 0."""

    tasks: int
    score: float
    unscored: int


def read_tasks(folder: Path) -> list[Task]:
    """Raises InputError where the folder is not laid out as published."""
    index = folder / "mm-vet.json"
    try:
        entries = json.loads(index.read_text())
        return [
            Task(
                key=key,
                question=entry["question"],
                answer=entry["answer"],
                capabilities=tuple(sorted(set(entry["capability"]))),
                picture=(folder / "images" / entry["imagename"]).read_bytes(),
            )
            for key, entry in entries.items()
        ]
    except (FileNotFoundError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        wanted = "mm-vet.json of imagename, question, answer, capability, beside images/"
        raise InputError(f"{folder}: want {wanted}, found {type(error).__name__}: {error}") from error


def as_question(task: Task) -> Question:
    return Question(task.key, task.picture, task.question)


def judge_prompt(task: Task, said: str, *, rubric: str) -> str:
    """The rubric, and the row to be completed. A `|` or a line's end in the answer would end its cell."""
    cells = (task.question, task.answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> "), said)
    return f"{rubric.rstrip()}\n{' | '.join(_cell(cell) for cell in cells)} | "


def score_of(judgement: str) -> float | None:
    """The number from 0 to 1 that a judgement begins with; None where it begins otherwise."""
    found = _SCORE.match(judgement)
    return None if found is None else float(found[1])


def judged(
    client: ChatClient, tasks: Sequence[Task], said: Sequence[str], *, rubric: str
) -> list[float | None]:
    """The judge's scores, in order. One that is no number is asked for once more, in plainer words."""
    prompts = [judge_prompt(task, text, rubric=rubric) for task, text in zip(tasks, said, strict=True)]
    first = _scores(client, prompts)
    again = [place for place, score in enumerate(first) if score is None]
    second = _scores(client, [prompts[place] + _AGAIN for place in again])
    return _patched(first, dict(zip(again, second, strict=True)))


def grades(tasks: Sequence[Task], scores: Sequence[float | None]) -> dict[str, Grade]:
    """By capability, and `all` over every task; a task counts for each capability that it needs."""
    held: dict[str, list[float | None]] = {}
    for task, score in zip(tasks, scores, strict=True):
        for name in (*task.capabilities, "all"):
            held.setdefault(name, []).append(score)
    return {
        name: Grade(
            tasks=len(some),
            score=100 * sum(score or 0.0 for score in some) / len(some),
            unscored=sum(score is None for score in some),
        )
        for name, some in sorted(held.items())
    }


def _scores(client: ChatClient, prompts: Sequence[str]) -> list[float | None]:
    plain = [{"role": "user", "content": "Answer with the number 1.0"}]
    futures = [
        client.ask(
            [{"role": "user", "content": prompt}],
            max_tokens=_JUDGED_TOKENS,
            temperature=0.0,
            known_good=plain,
        )
        for prompt in prompts
    ]
    scores: list[float | None] = []
    for future in futures:
        try:
            scores.append(score_of(future.result().text))
        except (RefusedError, UnansweredError):
            scores.append(None)
    return scores


def _patched(scores: list[float | None], second: dict[int, float | None]) -> list[float | None]:
    return [second.get(place, score) for place, score in enumerate(scores)]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
