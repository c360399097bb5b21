"""The arrows between the parts hold: `jobs → stages → workers → models`, and nothing points back."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

PACKAGE = ROOT / "recap_spark"

# For each side, what it may not import, at the top of a file or inside a function.
FORBIDDEN = {
    "settings": ("pyspark", "delta", "torch", "transformers"),
    "models": ("pyspark", "delta"),
    "workers": ("pyspark", "delta", "recap_spark.tables"),
    "trainers": ("pyspark", "delta", "recap_spark.tables"),
    "evaluations": ("pyspark", "delta", "recap_spark.tables"),
    "stages": ("torch", "transformers", "delta"),
}

# For each room, the other rooms that it may import. A room that is not here, a new one, fails the test.
MAY_IMPORT = {
    "settings": ("settings.files",),
    "settings.files": ("settings",),
    "models": (),
    "models.clip": ("models",),
    "models.kernels": (),
    "models.llava": ("models", "models.kernels"),
    "workers": ("settings",),
    "workers.pictures": ("settings",),
    "workers.fetching": ("settings", "workers", "workers.metadata", "workers.pictures"),
    "workers.shards": (
        "settings",
        "workers",
        "workers.metadata",
        "workers.pictures",
        "workers.fetching",
    ),
    "workers.chat": ("settings", "workers"),
    "workers.captioning": (
        "settings",
        "workers",
        "workers.pictures",
        "workers.chat",
        "models",
        "models.llava",
    ),
    "workers.scoring": ("settings", "workers", "workers.pictures", "models", "models.clip"),
    "workers.metadata": (),
    "lake": ("settings",),
    "machine": ("settings", "pipeline", "lake", "progress", "workers.shards", "trainers.captioner"),
    "machine.doctor": ("settings", "machine", "workers.shards"),
    "planning": ("settings", "models.llava"),
    "stages": (
        "settings",
        "machine",
        "workers",
        "workers.scoring",
        "workers.captioning",
        "workers.metadata",
    ),
    "stages.ingest": ("settings", "machine", "stages", "workers", "workers.metadata", "workers.shards"),
    "stages.fetch": ("settings", "stages", "workers.fetching"),
    "stages.importing": (
        "settings",
        "stages",
        "stages.fetch",
        "workers.shards",
        "workers.metadata",
        "workers.fetching",
    ),
    "stages.caption": ("settings", "machine", "stages", "workers.captioning"),
    "stages.export": ("settings", "stages", "workers.shards"),
    "trainers": ("settings", "tracking"),
    "trainers.captioner": ("settings", "trainers", "models"),
    "trainers.clip": ("trainers", "models"),
    "evaluations": (
        "settings",
        "tracking",
        "miniature",
        "workers",
        "workers.pictures",
        "workers.chat",
        "workers.captioning",
    ),
    # Where commands meet what they run; each imports it when it is run.
    "commands": (
        "settings",
        "settings.files",
        "machine",
        "machine.doctor",
        "pipeline",
        "demo",
        "planning",
        "report",
        "evaluations",
        "stages.importing",
        "stages.fetch",
        "stages.caption",
        "stages.export",
        "workers.captioning",
    ),
    "report": ("settings", "lake", "planning", "stages", "stages.fetch", "workers.shards"),
    "miniature": ("settings", "models", "trainers", "trainers.captioner", "trainers.clip"),
}
# What every room shares.
SHARED = {"", "errors", "extras", "statuses", "tables", "lake", "draw", "progress", "tracking"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_nothing_points_back(part):
    files = sorted((PACKAGE / part).rglob("*.py"))
    assert files
    breaches = [
        (path.name, name)
        for path in files
        for name in imported(path)
        if any(is_within(name, forbidden) for forbidden in FORBIDDEN[part])
    ]
    assert breaches == []


def room(name: str) -> str:
    """The room that a module of this package is in; a module at the door is its own."""
    parts = name.split(".")[1:]
    path = PACKAGE.joinpath(*parts)
    if not path.is_dir():
        parts = parts[:-1] or parts
    return ".".join(parts)


@pytest.mark.parametrize("folder", sorted({path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}))
def test_a_room_imports_only_the_rooms_that_its_work_needs(folder):
    here = ".".join(folder.relative_to(PACKAGE).parts)
    others = {
        room(name)
        for path in folder.glob("*.py")
        for name in imported(path)
        if is_within(name, "recap_spark")
    }
    assert others - {here} - SHARED <= set(MAY_IMPORT[here])


def test_a_folder_holds_at_most_15_files_and_the_door_12():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    counts = {
        folder: len([path for path in folder.glob("*.py") if path.stem != "__init__"]) for folder in folders
    }
    assert counts[PACKAGE] <= 12
    assert {folder.name: count for folder, count in counts.items() if count > 15} == {}


def test_only_a_laptops_own_session_knows_deltas_python_package():
    """A platform may bring Delta's JARs alone."""
    knowing = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if any(is_within(name, "delta") for name in imported(path))
    }
    assert knowing == {"own_session.py"}


HEAVY = {"torch", "transformers", "mlflow", "pyspark", "pandas", "pyarrow", "numpy", "aiohttp", "pydantic"}


def test_the_command_line_says_its_help_without_what_its_commands_work_with():
    """Each of these takes tenths of seconds to import, and all of them several."""
    loaded = f"HEAVY = {HEAVY!r}; import sys, recap_spark.cli; print(HEAVY & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_a_driver_names_its_captioner_without_torch():
    program = (
        "import sys; from pathlib import Path; from recap_spark.settings.loading import load\n"
        "from recap_spark.workers.captioning.engines import captioner_spec, describe\n"
        "settings = load(Path('conf/base.yml'), Path('conf/laptop.yml'))\n"
        "made_by = describe(captioner_spec(settings.caption))\n"
        "print(made_by['captioner'], {'torch', 'transformers'} & sys.modules.keys())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert re.fullmatch(r"miniature-[0-9a-f]{12} set\(\)", ran.stdout.strip())


def test_no_file_is_a_drawer_for_everything():
    assert not {path.name for path in PACKAGE.rglob("*.py")} & {
        "utils.py",
        "common.py",
        "helpers.py",
        "base.py",
    }


def test_files_stay_within_250_lines():
    assert [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 250] == []
