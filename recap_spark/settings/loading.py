"""conf/*.yml → frozen settings. A key that nobody reads, that nobody sets or that is mistyped is an error
with its path.

`base.yml` sets every key; later files override it leaf by leaf. A captioner, a scorer or a view is a file of
its own beside base.yml (`captioners/NAME.yml`, …), named by the key that uses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recap_spark.errors import SettingsError
from recap_spark.settings.files.changes import read_changes
from recap_spark.settings.files.lake_places import within_lake
from recap_spark.settings.files.layers import KeyPath, leaves, stack
from recap_spark.settings.files.validation_errors import explain
from recap_spark.settings.schema import Settings

M = TypeVar("M", bound=BaseModel)

_NAMED_FILES = {
    ("caption", "captioner"): "captioners",
    ("caption", "captioner", "template"): "captioners/templates",
    ("calibrate", "templates"): "captioners/templates",
    ("score", "scorer"): "scorers",
    ("export", "view"): "views",
}


def load(*paths: Path, captioner: str | None = None, changes: Iterable[str] = ()) -> Settings:
    """Settings from files, later ones over earlier ones, and `changes`, each `KEY=VALUE`, over all of them;
    `captioner` is a name in place of the files' own.

    Raises SettingsError as `read` does.
    """
    over = read_changes(changes)
    if captioner:
        over["caption", "captioner"] = captioner
    return read(Settings, *paths, named_files=_NAMED_FILES, changes=over)


def read(
    model: type[M],
    *paths: Path,
    named_files: Mapping[KeyPath, str],
    changes: Mapping[KeyPath, Any] = MappingProxyType({}),
) -> M:
    """The model's values from files, later ones over earlier ones, and `changes` over all of them.

    Raises SettingsError naming the file and the path of every key that is unknown, missing or of the wrong
    type.
    """
    if not paths:
        raise SettingsError("want at least one settings file, found none")
    layers = stack(*paths, named_files=named_files, changes=changes)
    try:
        # JSON's rules, not Python's: a list may stand for a tuple, but "8" never for 8.
        validated = model.model_validate_json(json.dumps(within_lake(layers.values)))
    except ValidationError as error:
        raise SettingsError(explain(error, layers, paths)) from None
    if layers.faults:
        raise SettingsError("\n".join(layers.faults.values()))
    return validated


def flat(settings: BaseModel) -> dict[str, str]:
    """Every leaf by its dotted path, as text: what a tracked run records."""
    return {".".join(path): str(value) for path, value in leaves(settings.model_dump(mode="json"))}
