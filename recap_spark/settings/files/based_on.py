"""Settings files, and those that they say they are based on → all, in the order they are laid in"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import recap_spark
from recap_spark.errors import SettingsError
from recap_spark.settings.files.yaml_files import read_yaml

BASED_ON = "based_on"

Files = dict[Path, dict[str, Any]]


def read_files(paths: tuple[Path, ...]) -> Files:
    """Each file's keys and values, those it is based on before it, none twice.

    Raises SettingsError with a line for each file that cannot be read and each name that stands for none.
    """
    files: Files = {}
    faults: list[str] = []
    for path in paths:
        _lay(_found(path), files, faults, above=())
    if faults:
        raise SettingsError("\n".join(dict.fromkeys(faults)))
    return files


def built_in_folder() -> Path:
    """conf/ as it comes with the package, or with the repository that the package is run from."""
    package = Path(recap_spark.__file__).parent
    packed = package / "conf"
    return packed if packed.is_dir() else package.parent / "conf"


def here_or_built_in(name: str) -> Path:
    """A file of conf/ in the folder that a command is started in, else as it comes with the package."""
    here = Path("conf", name)
    return here if here.is_file() else built_in_folder() / name


def _found(path: Path) -> Path:
    """The file that --conf names: as it says, or `base` and `conf/base.yml` for the package's own where no
    such file is here.
    """
    if path.is_file():
        return path
    if not path.suffix and path.parent == Path():
        named = here_or_built_in(f"{path}.yml")
    elif path.parent == Path("conf"):
        named = built_in_folder() / path.name
    else:
        return path
    return named if named.is_file() else path


def _lay(path: Path, files: Files, faults: list[str], *, above: tuple[Path, ...]) -> None:
    real = path.resolve()
    if real in above:
        circle = " → ".join(str(each) for each in (*above[above.index(real) :], real))
        faults.append(f"{path}: {BASED_ON}: want no file that is based on itself, found {circle}")
        return
    if any(real == laid.resolve() for laid in files):
        return
    try:
        values = _read(path)
        bases = _bases(path, values.pop(BASED_ON, []))
    except SettingsError as error:
        faults.append(str(error))
        return
    for base in bases:
        _lay(base, files, faults, above=(*above, real))
    files[path] = values


def _read(path: Path) -> dict[str, Any]:
    if path.is_file():
        return read_yaml(path)
    folder = path.parent
    near = [str(file) for each in {folder, Path(), Path("conf")} for file in each.glob("*.y*ml")]
    near += [] if path.suffix else [file.stem for file in built_in_folder().glob("*.yml")]
    close = get_close_matches(str(path), near, n=1) or [
        file for file in sorted(near) if get_close_matches(path.stem, [Path(file).stem], n=1)
    ]
    remedy = (
        f"did you mean {close[0]}?" if close else "name it with --conf, or start in the folder that has conf/"
    )
    raise SettingsError(f"{path}: want a YAML file of settings, found none in {Path.cwd()}: {remedy}")


def _bases(path: Path, named: Any) -> list[Path]:
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"{path}: {BASED_ON}: want a list of names or paths, found {names!r:.80}")
    return [_base(path, name) for name in names]


def _base(path: Path, name: str) -> Path:
    """A path, from the folder of the file that names it; a bare word is a built-in file's name."""
    if "/" in name or name.endswith((".yml", ".yaml")):
        found = path.parent / Path(name).expanduser()
        known = ""
    else:
        found = built_in_folder() / f"{name}.yml"
        known = ", ".join(sorted(file.stem for file in built_in_folder().glob("*.yml")))
    if not found.is_file():
        wanted = f"one of {known}, or a path" if known else "the path of a file, from this one's folder"
        raise SettingsError(f"{path}: {BASED_ON}: want {wanted}, found {name!r}")
    return found
