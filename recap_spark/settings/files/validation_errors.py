"""What pydantic finds wrong with settings, said with the file and the path of the key"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recap_spark.settings.endpoint import without_kind
from recap_spark.settings.files.layers import KeyPath, Layers
from recap_spark.settings.files.plain_words import plainly
from recap_spark.settings.redaction import is_secret, public

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")

# Said of several keys together, with what was found.
_OF_A_WHOLE = ("value_error", "union_tag_invalid", "union_tag_not_found")
_LONGEST_SHOWN = 80  # characters

_MOST_FORGOTTEN = 3  # sections: where more are missing, it is the file that has them all


def explain(error: ValidationError, layers: Layers, paths: tuple[Path, ...]) -> str:
    """One line for every wrong key: the file that has it, its path, what was wanted and what was found."""
    problems = [(without_kind(problem["loc"]), problem) for problem in error.errors()]
    # A name that stands for no file is said as such, not as the section that it would have been.
    problems = [each for each in problems if not any(each[0][: len(keys)] == keys for keys in layers.faults)]
    unknown = {keys for keys, problem in problems if problem["type"] in _UNKNOWN}
    missing = {keys for keys, problem in problems if problem["type"] == "missing"}
    sections = sorted(keys[0] for keys in missing if len(keys) == 1)
    if len(sections) > _MOST_FORGOTTEN:
        files = ", ".join(map(str, paths))
        wanted = "want a first file that has every key, as conf/base.yml has"
        return f"{files}: {wanted}, found nothing of {', '.join(sections)}"
    lines = list(layers.faults.values())
    for keys, problem in problems:
        where = ", ".join(map(str, dict.fromkeys(_setters(keys, problem["type"], layers) or paths)))
        if keys in unknown:
            said = "nobody reads this key" + _nearest(keys, _known(keys[:-1], layers, missing) - unknown)
        elif keys in missing:
            said = "not set in any file"
        else:
            said = plainly(problem) + _found(keys, problem)
        lines.append(f"{where}: {'.'.join(keys)}: {said}")
    return "\n".join(lines)


def _found(keys: KeyPath, problem: ErrorDetails) -> str:
    value = problem["input"]
    if isinstance(value, dict):
        return ", found a section of keys" if problem["type"] not in _OF_A_WHOLE else ""
    if is_secret(".".join(keys)):
        return ", found a secret"
    shown = "nothing (null)" if value is None else public(repr(value))
    return f", found {shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + '…'}"


def _nearest(keys: KeyPath, known: set[KeyPath]) -> str:
    close = get_close_matches(keys[-1], sorted(path[-1] for path in known), n=1)
    return f": did you mean {close[0]}?" if close else ""


def _known(section: KeyPath, layers: Layers, missing: set[KeyPath]) -> set[KeyPath]:
    """The keys that a section may have: no key has a default, so each is set or missed."""
    held: Any = layers.values
    for key in section:
        held = held.get(key) if isinstance(held, dict) else None
    absent = {path for path in missing if path[:-1] == section}
    return absent | {(*section, str(key)) for key in (held if isinstance(held, dict) else ())}


def _setters(keys: KeyPath, problem: str, layers: Layers) -> list[Path]:
    """The files with a say in a key; of one that is not there, those that set its neighbours."""
    if problem == "missing":
        return [path for leaf, path in layers.origin.items() if leaf[:-1] == keys[:-1]]
    return [path for leaf, path in layers.origin.items() if leaf[: len(keys)] == keys[: len(leaf)]]
