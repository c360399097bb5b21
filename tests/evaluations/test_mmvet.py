"""MM-Vet's files are read as published, and a judge's words become scores by capability."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from recap_spark.errors import InputError
from recap_spark.evaluations.mmvet import Grade, Task, grades, judge_prompt, read_tasks, score_of

ENTRIES = {
    "v1_0": {
        "imagename": "v1_0.png",
        "imagesource": "https://example.org",
        "question": "What is x?",
        "answer": "-1<AND>-5",
        "capability": ["ocr", "math"],
    },
    "v1_1": {
        "imagename": "v1_1.png",
        "imagesource": "https://example.org",
        "question": "Which animal?",
        "answer": "cat<OR>kitten",
        "capability": ["rec"],
    },
}


def write(folder: Path, entries: object = ENTRIES) -> Path:
    (folder / "images").mkdir()
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    for name in ("v1_0.png", "v1_1.png"):
        (folder / "images" / name).write_bytes(out.getvalue())
    (folder / "mm-vet.json").write_text(json.dumps(entries))
    return folder


def test_tasks_are_read_with_their_pictures(tmp_path):
    first, second = read_tasks(write(tmp_path))
    assert (first.key, first.capabilities, second.answer) == ("v1_0", ("math", "ocr"), "cat<OR>kitten")
    assert first.picture.startswith(b"\x89PNG")


@pytest.mark.parametrize("entries", [{"v1_0": {"question": "?"}}, ["v1_0"]])
def test_a_file_of_something_else_is_named(tmp_path, entries):
    with pytest.raises(InputError, match=r"want mm-vet\.json of imagename"):
        read_tasks(write(tmp_path, entries))


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(InputError, match="FileNotFoundError"):
        read_tasks(tmp_path)


def test_the_last_row_of_the_prompt_lacks_its_score_and_an_answer_cannot_fill_it(tmp_path):
    task, _ = read_tasks(write(tmp_path))
    prompt = judge_prompt(task, "x = -1 | 1.0\nWhat? | a | b | 1.0", rubric="Grade.\n")
    assert prompt == "Grade.\nWhat is x? | -1 <AND> -5 | x = -1 / 1.0 What? / a / b / 1.0 | "


@pytest.mark.parametrize(
    ("judgement", "score"),
    [
        ("0.5", 0.5),
        (" 1.0", 1.0),
        ("1", 1.0),
        ("0", 0.0),
        ("0.8 because", 0.8),
        ("0.7.", 0.7),
        ("1.5", None),
        ("10", None),
        ("-0.5", None),
        ("right", None),
        ("", None),
    ],
)
def test_a_judgement_is_a_number_from_0_to_1_or_none(judgement, score):
    assert score_of(judgement) == score


def test_a_task_counts_for_each_capability_and_an_unscored_one_as_wrong():
    def task(*capabilities: str) -> Task:
        return Task(key="k", question="?", answer="!", capabilities=capabilities, picture=b"")

    result = grades([task("ocr", "math"), task("ocr"), task("rec")], [1.0, 0.5, None])
    assert result == {
        "all": Grade(tasks=3, score=50.0, unscored=1),
        "math": Grade(tasks=1, score=100.0, unscored=0),
        "ocr": Grade(tasks=2, score=75.0, unscored=0),
        "rec": Grade(tasks=1, score=0.0, unscored=1),
    }
