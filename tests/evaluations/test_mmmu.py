"""Questions are read as MMMU publishes them, and answers by its rule."""

import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from recap_spark.errors import InputError
from recap_spark.evaluations.mmmu import Choice, as_question, chosen, guess, mark, read_choices

CHOICE = Choice(
    key="validation_Art_1",
    subject="Art",
    question="What is <image 1>?",
    options=("a red square", "a blue circle", "a green star"),
    answer="B",
    picture=b"",
    has_more_pictures=False,
)


def picture() -> dict[str, object]:
    out = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 30, 30)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": "validation_Art_1_1.png"}


def row(number: int, **changed: object) -> dict[str, object]:
    return {
        "id": f"validation_Art_{number}",
        "question": "What is <image 1>?",
        "options": "['a red square', \"the painter's hat\"]",
        "explanation": "",
        "image_1": picture(),
        **{f"image_{n}": None for n in range(2, 8)},
        "img_type": "['Paintings']",
        "answer": "A",
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice",
        "subfield": "Drawing",
    } | changed


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(folder: Path, rows: list[dict[str, object]], subject: str = "Art") -> Path:
    names = [(name, IMAGE if name.startswith("image_") else pa.string()) for name in rows[0]]
    (folder / subject).mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=pa.schema(names))
    pq.write_table(table, folder / subject / "validation-00000-of-00001.parquet")
    return folder


def test_multiple_choice_questions_are_read_from_every_subject(tmp_path):
    write(tmp_path, [row(1), row(2, question_type="open", options="[]"), row(3, image_2=picture())])
    write(tmp_path, [row(1, id="validation_Math_1")], subject="Math")
    choices = read_choices(tmp_path)
    assert [choice.key for choice in choices] == ["validation_Art_1", "validation_Art_3", "validation_Math_1"]
    assert [choice.subject for choice in choices] == ["Art", "Art", "Math"]
    assert choices[0].options == ("a red square", "the painter's hat")
    assert [choice.has_more_pictures for choice in choices] == [False, True, False]
    assert Image.open(io.BytesIO(choices[0].picture)).size == (32, 24)


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "['a'", "7", "[]"])
def test_options_that_are_no_written_list_are_named_and_never_run(tmp_path, text):
    write(tmp_path, [row(1, options=text)])
    with pytest.raises(InputError, match="validation_Art_1: options: want a list of texts"):
        read_choices(tmp_path)


def test_a_folder_of_something_else_is_named(tmp_path):
    with pytest.raises(InputError, match="want MMMU's"):
        read_choices(tmp_path)
    write(tmp_path, [{"id": "1", "question": "?"}])
    with pytest.raises(InputError, match="want columns id, question, options"):
        read_choices(tmp_path)


def test_a_prompt_lists_the_options_by_letter():
    question = as_question(CHOICE, form="{question}\n{options}\n\nWhich?")
    assert question.prompt == (
        "What is <image 1>?\n(A) a red square\n(B) a blue circle\n(C) a green star\n\nWhich?"
    )


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(C)", "C"),
        ("The answer is B", "B"),
        ("A or rather C", "C"),  # the last of several
        ("A, so (B)", "B"),  # brackets go first
        ("It is not (A) but (C).", "C"),
        ("I think this must be a blue circle here", "B"),
        ("a blue circle", None),  # too few words to be read as an option spelt out
        ("a red square, no, I mean a green star", "C"),
        ("Because", None),
        ("", None),
    ],
)
def test_an_answer_names_a_letter_or_none(said, letter):
    assert chosen(said, CHOICE) == letter


def test_a_guess_is_the_same_on_every_run_and_spread_over_the_letters():
    guesses = [guess(replace(CHOICE, key=f"validation_Art_{n}")) for n in range(300)]
    assert guesses == [guess(replace(CHOICE, key=f"validation_Art_{n}")) for n in range(300)]
    assert all(70 < guesses.count(letter) < 130 for letter in "ABC")


def test_marks_count_right_answers_by_subject_and_guesses_among_them():
    math = replace(CHOICE, key="validation_Math_1", subject="Math", answer="A", has_more_pictures=True)
    marks = mark([CHOICE, CHOICE, math], ["(B)", "(A)", "what?"])
    assert (marks["Art"].right, marks["Art"].questions, marks["Art"].share) == (1, 2, 0.5)
    assert (marks["Math"].guessed, marks["Math"].half_seen, marks["Art"].half_seen) == (1, 1, 0)
    assert marks["all"].questions == 3
    assert marks["all"].right == 1 + (guess(math) == "A")
