"""A model's config.json → which kind of model it says it is"""

from __future__ import annotations

import json
from pathlib import Path

from recap_spark.errors import WeightsError


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
    for kind in wanted:
        if said.get("model_type") == kind:
            return kind
    raise WeightsError(f"{file}: want model_type {' or '.join(wanted)}, found {said.get('model_type')!r:.80}")
