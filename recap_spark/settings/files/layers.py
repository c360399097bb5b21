"""conf/*.yml laid over each other, leaf by leaf, remembering which file set which leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recap_spark.errors import SettingsError
from recap_spark.settings.files.based_on import read_files
from recap_spark.settings.files.yaml_files import read_yaml

KeyPath = tuple[str, ...]

COMMAND_LINE = Path("--set")


@dataclass(frozen=True)
class Layers:
    """The merged values, every leaf's file that had the last word, and the names that stand for no file."""

    values: dict[str, Any]
    origin: dict[KeyPath, Path]
    faults: dict[KeyPath, str]


def stack(*paths: Path, named_files: Mapping[KeyPath, str], changes: Mapping[KeyPath, Any]) -> Layers:
    """Later files over earlier ones; a name under a key of `named_files` is replaced by that folder's
    NAME.yml, a list of names by all of theirs, by name. `changes` are what the command line says over all of
    them, the named files included.

    Raises SettingsError naming every file that is missing or not YAML.
    """
    values: dict[str, Any] = {}
    origin: dict[KeyPath, Path] = {}
    files = read_files(paths)
    for path, layer in files.items():
        origin = _overlaid(origin, dict.fromkeys(_leaves(layer), path))
        values = _merge(values, layer)
    folders = list(dict.fromkeys(path.parent for path in reversed(files)))
    faults: dict[KeyPath, str] = {}
    waiting = dict(changes)
    for place, (keys, folder) in enumerate(named_files.items()):
        # What is below a name has to wait until the name's file is there.
        names = list(named_files)[place:]
        ready = {key: value for key, value in waiting.items() if not any(_is_below(key, n) for n in names)}
        values, origin = _changed(values, origin, ready)
        waiting = {key: value for key, value in waiting.items() if key not in ready}
        try:
            values, origin = _resolve(values, origin, keys, [each / folder for each in folders])
        except SettingsError as error:
            faults[keys] = str(error)
    values, origin = _changed(values, origin, waiting)
    return Layers(values, origin, faults)


def leaves(values: Mapping[str, Any], at: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every leaf with its path, in order."""
    for key, value in values.items():
        here = (*at, str(key))
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def _is_below(key: KeyPath, name: KeyPath) -> bool:
    return len(key) > len(name) and key[: len(name)] == name


def _changed(
    values: dict[str, Any], origin: dict[KeyPath, Path], changes: Mapping[KeyPath, Any]
) -> tuple[dict[str, Any], dict[KeyPath, Path]]:
    for keys, value in changes.items():
        layer = _nested(keys, value)
        origin = _overlaid(origin, dict.fromkeys(_leaves(layer), COMMAND_LINE))
        values = _merge(values, layer)
    return values, origin


def _resolve(
    values: dict[str, Any], origin: dict[KeyPath, Path], keys: KeyPath, folders: list[Path]
) -> tuple[dict[str, Any], dict[KeyPath, Path]]:
    held: Any = values
    for key in keys:
        held = held.get(key) if isinstance(held, dict) else None
    if isinstance(held, list) and held and all(isinstance(name, str) for name in held):
        named: dict[str, Any] = {}
        origins: dict[KeyPath, Path] = {}
        for name in held:
            named[name], found_in = _named(name, folders, keys, origin)
            origins |= {(*keys, name, *leaf): found_in for leaf in _leaves(named[name])}
    elif isinstance(held, str):
        named, found_in = _named(held, folders, keys, origin)
        origins = {(*keys, *leaf): found_in for leaf in _leaves(named)}
    else:
        return values, origin
    return _merge(_without(values, keys), _nested(keys, named)), _overlaid(origin, origins)


def _named(
    name: str, folders: list[Path], keys: KeyPath, origin: dict[KeyPath, Path]
) -> tuple[dict[str, Any], Path]:
    known = {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.yml"))}
    if name not in known:
        wanted = f"want one of {folders[-1]}/*.yml ({', '.join(sorted(known)) or 'none'})"
        raise SettingsError(f"{origin[keys]}: {'.'.join(keys)}: {wanted}, found {name!r}")
    return {"name": name} | read_yaml(known[name]), known[name]


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
