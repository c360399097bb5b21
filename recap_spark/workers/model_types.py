"""A model's folder → which kind of model it says it is, or one line that says why it is none"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recap_spark.errors import RecapError, WeightsError

_MOST_LAYERS = 1000  # a model is built layer by layer, without weights too: of billions that never ends


def model_type(folder: Path, *, wanted: tuple[str, ...]) -> str:
    """The `model_type` of a folder in Hugging Face's layout. Raises WeightsError where it is none of the
    wanted ones, or there is no JSON object to say it.
    """
    file = folder / "config.json"
    if not file.is_file():
        found = sorted(path.name for path in folder.iterdir())
        raise WeightsError(f"{folder}: want config.json, found {found}")
    try:
        said = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file}: want JSON, found {type(error).__name__}: {error!s:.200}") from error
    if not isinstance(said, dict):
        raise WeightsError(f"{file}: want a JSON object, found a {type(said).__name__}")
    _check_layers(file, said)
    for kind in wanted:
        if said.get("model_type") == kind:
            return kind
    raise WeightsError(f"{file}: want model_type {' or '.join(wanted)}, found {said.get('model_type')!r:.80}")


@contextmanager
def opened_as(folder: Path, wanted: str) -> Iterator[None]:
    """What fails meanwhile is said of the folder in one line, as WeightsError: transformers meets what is
    wrong with a file by whichever error it comes across, and tokenizers by a bare Exception.
    """
    try:
        yield
    except (RecapError, MemoryError):
        raise
    except Exception as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise WeightsError(f"{folder}: want {wanted}, found {found}") from error


def _check_layers(file: Path, config: dict[str, Any]) -> None:
    for section in (config, config.get("text_config"), config.get("vision_config")):
        layers = section.get("num_hidden_layers") if isinstance(section, dict) else None
        if isinstance(layers, int) and layers > _MOST_LAYERS:
            raise WeightsError(f"{file}: want num_hidden_layers of at most {_MOST_LAYERS}, found {layers}")
