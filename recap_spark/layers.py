"""conf/*.yml laid over each other, leaf by leaf, remembering which file set which leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recap_spark.errors import SettingsError

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """The merged values, and for every leaf the file that had the last word."""

    values: dict[str, Any]
    origin: dict[KeyPath, Path]


def stack(*paths: Path, named_files: Mapping[tuple[str, str], str]) -> Layers:
    """Later files over earlier ones; a name under a key of `named_files` is replaced by that folder's
    NAME.yml.

    Raises SettingsError naming the file that is missing or not YAML.
    """
    values: dict[str, Any] = {}
    origin: dict[KeyPath, Path] = {}
    for path in paths:
        layer = _read(path)
        origin = _overlaid(origin, dict.fromkeys(_leaves(layer), path))
        values = _merge(values, layer)
    for keys, folder in named_files.items():
        values, origin = _resolve(values, origin, keys, paths[0].parent / folder)
    return Layers(values, origin)


def leaves(values: Mapping[str, Any], at: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every leaf with its path, in order."""
    for key, value in values.items():
        here = (*at, str(key))
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingsError(f"{path}: want a YAML file of settings, found none")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: want keys and values, found {type(values).__name__}")
    return values


def _resolve(
    values: dict[str, Any], origin: dict[KeyPath, Path], keys: tuple[str, str], folder: Path
) -> tuple[dict[str, Any], dict[KeyPath, Path]]:
    section, key = keys
    held = values.get(section)
    name = held.get(key) if isinstance(held, dict) else None
    if not isinstance(name, str):
        return values, origin
    path = folder / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yml"))) or "none"
        raise SettingsError(
            f"{origin[keys]}: {section}.{key}: want one of {folder}/*.yml ({known}), found {name!r}"
        )
    named = {"name": name} | _read(path)
    named_origin = {(*keys, *leaf): path for leaf in _leaves(named)}
    return values | {section: values[section] | {key: named}}, _overlaid(origin, named_origin)


def _overlaid(origin: dict[KeyPath, Path], over: dict[KeyPath, Path]) -> dict[KeyPath, Path]:
    """Who set which leaf after `over`: a value in a section's place takes the section's leaves away."""
    covering = {leaf[:length] for leaf in over for length in range(1, len(leaf))}
    kept = {
        leaf: path
        for leaf, path in origin.items()
        if leaf not in covering and not any(leaf[:length] in over for length in range(1, len(leaf)))
    }
    return kept | over


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(base[key], over[key])
        for key in base.keys() & over.keys()
        if isinstance(base[key], dict) and isinstance(over[key], dict)
    }
    return base | dict(over) | both


def _leaves(values: Mapping[str, Any]) -> Iterator[KeyPath]:
    return (path for path, _ in leaves(values))
