"""The files of a model → one hash of them"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from recap_spark.errors import WeightsError
from recap_spark.settings.model_source import TEXTS, WEIGHTS, resolve

_CHUNK = 1 << 20


def weights_sha256(model: str) -> str | None:
    """One hash over a folder's safetensors, in order of their names; None for a hub name, whose revision
    identifies the weights.

    Raises WeightsError where the folder has none.
    """
    folder = Path(resolve(model))
    if not folder.is_dir():
        return None
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"{model}: want *.safetensors, found {sorted(path.name for path in folder.iterdir())}"
        )
    return _sha256(folder, *WEIGHTS)


def folder_sha256(model: str) -> str | None:
    """One hash over everything of a model that is read from its folder; None for a hub name."""
    folder = Path(resolve(model))
    return _sha256(folder, *TEXTS, *WEIGHTS) if folder.is_dir() else None


def _sha256(folder: Path, *patterns: str) -> str:
    files = sorted({path.absolute() for pattern in patterns for path in folder.glob(pattern)})
    return _hash_files(tuple((path, _file_state(path)) for path in files))


def _file_state(path: Path) -> tuple[int, ...]:
    """What changes with a file's content."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=16)  # score, mix and export ask for the same ones, which are gigabytes
def _hash_files(files: tuple[tuple[Path, tuple[int, ...]], ...]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
