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


def stack(*paths: Path, named_files: Mapping[KeyPath, str], over: Mapping[str, Any] | None = None) -> Layers:
    """Later files over earlier ones; a name under a key of `named_files` is replaced by that folder's
    NAME.yml, a list of names by all of theirs, by name. `over` is what the command line says over all files.

    Raises SettingsError naming the file that is missing or not YAML.
    """
    values: dict[str, Any] = {}
    origin: dict[KeyPath, Path] = {}
    for path in paths:
        layer = _read(path)
        origin = _overlaid(origin, dict.fromkeys(_leaves(layer), path))
        values = _merge(values, layer)
    if over:
        origin = _overlaid(origin, dict.fromkeys(_leaves(over), Path("command line")))
        values = _merge(values, over)
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
        remedy = "name it with --conf, or start in the folder that has conf/"
        raise SettingsError(f"{path}: want a YAML file of settings, found none in {Path.cwd()}: {remedy}")
    try:
        with path.open(encoding="utf-8") as file:  # whose name YAML's errors then say
            values = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: want keys and values, found {type(values).__name__}")
    return values


def _resolve(
    values: dict[str, Any], origin: dict[KeyPath, Path], keys: KeyPath, folder: Path
) -> tuple[dict[str, Any], dict[KeyPath, Path]]:
    held: Any = values
    for key in keys:
        held = held.get(key) if isinstance(held, dict) else None
    if isinstance(held, list) and held and all(isinstance(name, str) for name in held):
        named: dict[str, Any] = {}
        origins: dict[KeyPath, Path] = {}
        for name in held:
            named[name], found_in = _named(name, folder, keys, origin)
            origins |= {(*keys, name, *leaf): found_in for leaf in _leaves(named[name])}
    elif isinstance(held, str):
        named, found_in = _named(held, folder, keys, origin)
        origins = {(*keys, *leaf): found_in for leaf in _leaves(named)}
    else:
        return values, origin
    return _merge(_without(values, keys), _nested(keys, named)), _overlaid(origin, origins)


def _named(
    name: str, folder: Path, keys: KeyPath, origin: dict[KeyPath, Path]
) -> tuple[dict[str, Any], Path]:
    path = folder / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yml"))) or "none"
        raise SettingsError(
            f"{origin[keys]}: {'.'.join(keys)}: want one of {folder}/*.yml ({known}), found {name!r}"
        )
    return {"name": name} | _read(path), path


def _nested(keys: KeyPath, value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if keys[1:] else value}


def _without(values: Mapping[str, Any], keys: KeyPath) -> dict[str, Any]:
    if not keys[1:]:
        return {key: value for key, value in values.items() if key != keys[0]}
    return dict(values) | {keys[0]: _without(values[keys[0]], keys[1:])}


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
