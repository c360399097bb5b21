"""A model as conf names it → the folder it is in

Knows neither Spark nor torch: the driver describes a model, workers and trainers load it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import recap_spark
from recap_spark.errors import SettingsError, WeightsError

# What says how to use a model, and what the model is; never a pickle, never code.
TEXTS = ("*.json", "*.jinja", "*.model", "*.txt")
WEIGHTS = ("*.safetensors",)

_BUNDLED = "miniature:"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Named(Protocol):
    """Whatever says which model is meant: the settings of a captioner or a scorer, or an Origin."""

    @property
    def model(self) -> str: ...

    @property
    def revision(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A model, or a part of one: a folder, `miniature:NAME`, or a hub name at one commit."""

    model: str
    revision: str | None  # commit on the hub


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a checkpoint in the original layout leaves out."""

    tokenizer: Origin
    vision_tower: Origin


def resolve(model: str) -> str:
    """A folder or hub name as transformers takes it; `miniature:NAME` is a model that comes with the
    package.
    """
    if not model.startswith(_BUNDLED):
        return model
    folder = Path(recap_spark.__file__).parent / "miniature" / "weights" / model.removeprefix(_BUNDLED)
    if not folder.is_dir():
        raise WeightsError(
            f"{model}: want a folder {folder.name} among the bundled weights, found none: `make miniature`"
        )
    return str(folder)


def folder_of(origin: Named, *, files: Literal["texts", "all"]) -> Path:
    """The folder a model is in; one on the hub is brought here first, its weights where `all` is asked for.

    Raises WeightsError for what is neither a folder nor a hub name, SettingsError for a hub name without the
    commit that says which weights are meant.
    """
    folder = Path(resolve(origin.model))
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(origin.model):
        raise WeightsError(f"{origin.model}: want a folder, or owner/name on the hub, found neither")
    if origin.revision is None or not _COMMIT.fullmatch(origin.revision):
        raise SettingsError(
            f"{origin.model}: want revision to be a commit of 40 hexadecimal digits, found "
            f"{origin.revision!r}: what a name or a branch stands for changes"
        )
    from huggingface_hub import snapshot_download

    patterns = [*TEXTS, *(WEIGHTS if files == "all" else ())]
    return Path(snapshot_download(origin.model, revision=origin.revision, allow_patterns=patterns))
