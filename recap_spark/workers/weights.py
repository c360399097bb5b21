"""Where a model's files are, and what they are"""

from __future__ import annotations

import hashlib
from pathlib import Path

import recap_spark
from recap_spark.errors import WeightsError

_BUNDLED = "miniature:"
_CHUNK = 1 << 20


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


def weights_sha256(model: str) -> str | None:
    """One hash over a folder's safetensors, by name; None for a hub name, whose revision says as much.

    Raises WeightsError where the folder has none.
    """
    folder = Path(resolve(model))
    if not folder.is_dir():
        return None
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError(
            f"{model}: want *.safetensors, found {sorted(path.name for path in folder.iterdir())}"
        )
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
