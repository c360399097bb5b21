"""Plain values against dataclasses: a field that is unknown, one that is missing, a value of another type"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any


def faults(value: Any, hint: Any, at: str) -> Iterator[str]:
    """Where and why a value, as YAML has it, is none of the type; nothing where it is one."""
    options = _options(hint)
    if value is None:
        if type(None) not in options:
            yield f"{at}: want {_shown(hint)}, found nothing"
        return
    found = [list(_faults_of_one(value, option, at)) for option in options if option is not type(None)]
    yield from min(found, key=len)


def _options(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [inner for each in typing.get_args(hint) for inner in _options(each)]
    return [hint]


def _faults_of_one(value: Any, hint: Any, at: str) -> Iterator[str]:
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if dataclasses.is_dataclass(kind):
        yield from _faults_of_fields(value, kind, at)
    elif kind is list and isinstance(value, list):
        for number, each in enumerate(value):
            yield from faults(each, arguments[0], f"{at}[{number}]")
    elif kind is dict and isinstance(value, dict):
        for key, each in value.items():
            yield from faults(key, arguments[0], f"{at}: key")
            yield from faults(each, arguments[1], f"{at}.{key}")
    elif isinstance(kind, type) and issubclass(kind, Enum):
        if value not in [each.value for each in kind]:
            yield f"{at}: want one of {kind.__name__}, found {value!r}"
    elif typing.get_origin(hint) is typing.Literal:
        if value not in arguments:
            yield f"{at}: want one of {arguments}, found {value!r}"
    elif type(value) is not kind:  # so that no truth value is a number
        yield f"{at}: want {_shown(hint)}, found {value!r}"


def _faults_of_fields(value: Any, kind: Any, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: want {_shown(kind)}, found {value!r}"
        return
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    needed = {
        each.name
        for each in fields
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    for name in sorted(needed - value.keys()):
        yield f"{at}: want {name}, found none"
    for name, inner in value.items():
        if name in hints:
            yield from faults(inner, hints[name], f"{at}.{name}")
        else:
            yield f"{at}: want a field of {kind.__name__}, found {name}"


def _shown(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
