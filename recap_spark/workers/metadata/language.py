"""Texts → whether they are English, by fastText's language identification, as DataComp's filters ask"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from recap_spark.errors import InputError, PlatformError

_ENGLISH = "__label__en"


def are_english(texts: Sequence[str | None], *, model: str) -> list[bool]:
    """Whether the most probable language of each text is English; false for null.

    Line ends become blanks, as in DataComp (baselines/apply_filter.py): fastText reads one line.
    """
    asked = [text.replace("\n", " ") for text in texts if text is not None]
    if not asked:
        return [False] * len(texts)
    labels = iter(load_model(model).predict(asked, k=1)[0])
    return [text is not None and next(labels)[0] == _ENGLISH for text in texts]


@lru_cache(maxsize=1)
def load_model(path: str) -> Any:
    """A fastText model for language identification, loaded once a process.

    Raises PlatformError where the library is missing, InputError where the file is no such model.
    """
    try:
        import fasttext
    except ImportError as error:
        raise PlatformError(
            "ingest.filters: want fastText to tell English: install the project's extra `filters`"
        ) from error
    if not Path(path).is_file():
        asked = "want a file that every worker can open"
        raise InputError(f"ingest.language_model: {asked}, found none at {path!r}")
    try:
        model = fasttext.load_model(path)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"ingest.language_model: want a fastText model, found {path!r}: {error}") from error
    if _ENGLISH not in model.get_labels():
        raise InputError(f"ingest.language_model: want the label {_ENGLISH}, found none in {path!r}")
    return model
