"""What pydantic finds wrong with settings, said with the file and the path of the key"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from recap_spark.captioners import without_kind
from recap_spark.layers import Layers
from recap_spark.secrecy import is_secret, public

_PLAIN_WORDS = {
    "missing": "not set in any file",
    "extra_forbidden": "nobody reads this key",
    "unexpected_keyword_argument": "nobody reads this key",
}


def explain(error: ValidationError, layers: Layers, paths: tuple[Path, ...]) -> str:
    """One line for every wrong key: the file that has it, its path, what was wanted and what was found."""
    lines = []
    for problem in error.errors():
        keys = without_kind(problem["loc"])
        where = ", ".join(map(str, dict.fromkeys(_setters(keys, problem["type"], layers) or paths)))
        found = (
            ""
            if problem["type"] in _PLAIN_WORDS or isinstance(problem["input"], dict)
            else f", found {'a secret' if is_secret('.'.join(keys)) else public(repr(problem['input']))}"
        )
        lines.append(f"{where}: {'.'.join(keys)}: {_PLAIN_WORDS.get(problem['type'], problem['msg'])}{found}")
    return "\n".join(lines)


def _setters(keys: tuple[str, ...], problem: str, layers: Layers) -> list[Path]:
    """The files with a say in a key; of one that is not there, those that set its neighbours."""
    if problem == "missing":
        return [path for leaf, path in layers.origin.items() if leaf[:-1] == keys[:-1]]
    return [path for leaf, path in layers.origin.items() if leaf[: len(keys)] == keys[: len(leaf)]]
