"""English is told by a fastText model of the user's, and never guessed where there is none."""

from pathlib import Path

import pytest

from recap_spark.errors import InputError
from recap_spark.workers.metadata.language import are_english, load_model

fasttext = pytest.importorskip("fasttext")

ENGLISH = ("a photo of the house and a tree", "the cat sat on the mat with the dog")
GERMAN = ("ein bild von dem haus und ein baum", "der hund und die katze sind auf der matte")


def train(path: Path, **languages: tuple[str, ...]) -> str:
    """A tiny model of the same kind as lid.176.bin."""
    texts = path.with_suffix(".txt")
    lines = [f"__label__{label} {text}" for label, some in languages.items() for text in some]
    texts.write_text("\n".join(lines * 30))
    model = fasttext.train_supervised(str(texts), dim=8, epoch=20, thread=1, bucket=1000, verbose=0)
    model.save_model(str(path))
    return str(path)


def test_the_likeliest_language_decides_and_line_ends_are_blanks(tmp_path):
    model = train(tmp_path / "lid.bin", en=ENGLISH, de=GERMAN)
    texts = ["the dog is on a tree", None, "der baum ist ein haus", "the house\nund\nof the cat and a dog"]
    assert are_english(texts, model=model) == [True, False, False, True]
    assert are_english([None, None], model=model) == [False, False]
    assert are_english([], model=model) == []


def test_a_file_that_is_no_model_of_languages_is_refused(tmp_path):
    (tmp_path / "page.bin").write_text("<html>")
    for path, said in (
        (str(tmp_path / "none.bin"), "found none at"),
        (str(tmp_path / "page.bin"), "want a fastText model"),
        (train(tmp_path / "sentiment.bin", good=ENGLISH, bad=GERMAN), "want the label __label__en"),
    ):
        with pytest.raises(InputError, match=said):
            load_model(path)
