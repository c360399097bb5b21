"""A YAML file → plain keys and values, or one line that says what is wrong and where

Stricter than YAML: a key once, keys that are text, no tags, and no file that is small only until its aliases
are followed.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from recap_spark.errors import SettingsError

_LARGEST_BYTES, _MOST_NODES, _DEEPEST, _LONGEST_NUMBER = 2**20, 50_000, 50, 40

_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's keys and values. Raises SettingsError with the line of what is no plain YAML in UTF-8."""
    try:
        with path.open("rb") as file:
            written = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    if len(written) > _LARGEST_BYTES:
        raise SettingsError(f"{path}: want at most {_LARGEST_BYTES} bytes of settings, found more")
    values = _parsed(path, _decoded(path, written))
    if values is None:
        raise SettingsError(f"{path}: want keys and values, found an empty file")
    if not isinstance(values, dict):
        found = "a list" if isinstance(values, list) else f"{type(values).__name__}"
        raise SettingsError(f"{path}: want keys and values, found {found}")
    return values


def _decoded(path: Path, written: bytes) -> str:
    for mark, encoding in _MARKS:
        if written.startswith(mark):
            raise SettingsError(f"{path}: line 1: want UTF-8, found the mark of {encoding}")
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{written[error.start]:02x}"
        raise SettingsError(f"{path}: line {line}: want UTF-8, found {found}, which is none") from error


def _parsed(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(f"{path}: line {line}: not YAML: a control character") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        problem = " ".join(f"{error.problem or error.context}".split())
        hint = ": indent with spaces" if r"\t" in problem else ""
        raise SettingsError(f"{path}: {where}not YAML: {problem}{hint}") from error
    except (yaml.YAMLError, ValueError, IndexError) as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the limits above; a date stays the words that were written."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes, self._depth = 0, 0
        self._sizes: dict[int, int] = {}  # of a finished node with all below it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _wrong(f"want plain values, found the tag {event.tag}", event.start_mark)
        before = self._nodes
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _wrong(f"want at most {_DEEPEST} levels, found more", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _wrong("want no alias inside of what it stands for, found one", event.start_mark)
            self._nodes += self._sizes[id(node)]
        else:
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
        if self._nodes > _MOST_NODES:
            raise _wrong(f"want at most {_MOST_NODES} values with aliases followed", event.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                found = getattr(key, "value", "a collection")
                raise _wrong(f"want a key that is text, found {found!s:.40}: quote it", key.start_mark)
            if key.value in lines:
                found = f"{key.value} in line {lines[key.value]} as well"
                raise _wrong(f"want every key once, found {found}", key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        is_number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if is_number and len(node.value) > _LONGEST_NUMBER:
            raise _wrong(f"want a number of at most {_LONGEST_NUMBER} digits", node.start_mark)
        if isinstance(node.value, str) and any("\ud800" <= character <= "\udfff" for character in node.value):
            raise _wrong("want Unicode text, found half a surrogate pair", node.start_mark)
        return super().construct_scalar(node)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def plain_value(text: str) -> Any:
    """What YAML makes of one value. Raises SettingsError."""
    return _parsed(Path("--set"), text)


def _wrong(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
