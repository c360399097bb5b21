"""The arrows between the parts hold: `jobs → stages → workers → models`, and nothing points back."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "recap_spark"

# Below each part: what it may not import, at the top of a file or inside a function.
FORBIDDEN = {
    "models": ("pyspark", "delta", "recap_spark.stages", "recap_spark.workers", "recap_spark.trainers"),
    "workers": ("pyspark", "delta", "recap_spark.stages", "recap_spark.trainers", "recap_spark.tables"),
    "trainers": ("pyspark", "delta", "recap_spark.stages", "recap_spark.workers", "recap_spark.tables"),
    "evaluations": ("pyspark", "delta", "recap_spark.stages", "recap_spark.trainers", "recap_spark.tables"),
    "stages": ("torch", "transformers", "delta", "recap_spark.trainers", "recap_spark.models"),
}


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


def test_only_the_lake_and_the_session_know_delta():
    knowing = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if any(is_within(name, "delta") for name in imported(path))
    }
    assert knowing == {"lake.py", "session.py"}


def test_a_command_starts_without_torch():
    """It is the workers'; a driver that imports it starts seconds later."""
    loaded = "import sys, recap_spark.cli; print({'torch', 'transformers', 'mlflow'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_no_file_is_a_drawer_for_everything():
    assert not {path.name for path in PACKAGE.rglob("*.py")} & {
        "utils.py",
        "common.py",
        "helpers.py",
        "base.py",
    }


def test_files_stay_within_250_lines():
    assert [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 250] == []
