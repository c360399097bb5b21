"""The wheel, installed without extras: no torch, no Spark, and conf in it"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from repository import ROOT

ABSENT = ("torch", "transformers", "safetensors", "pyspark", "py4j", "delta", "sqlalchemy", "fasttext")


def distributions_for(site: Path) -> set[str]:
    """What the wheel in `site` needs without extras, and all that those need, by name."""
    (project,) = importlib.metadata.distributions(name="recap-spark", path=[str(site)])
    waiting, known = list(project.requires or ()), set()
    while waiting:
        needed = Requirement(waiting.pop())
        applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if applies and needed.name not in known:
            known.add(needed.name)
            waiting += importlib.metadata.requires(needed.name) or ()
    return known


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and links to its core dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("slim")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    for name in distributions_for(site):
        for file in importlib.metadata.distribution(name).files or ():
            top, source = file.parts[0], Path(file.locate().parents[len(file.parts) - 1], file.parts[0])
            if top not in ("..", "__pycache__", "bin") and not (site / top).exists():
                (site / top).symlink_to(source)
    return folder / "venv" / "bin" / "python"


def run(slim: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a folder with no conf/."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "300", "TERM": "dumb"}
    program = [slim, "-I", "-c", "from recap_spark.cli import main; main()", *words]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_without_extras_there_is_neither_torch_nor_spark(slim, tmp_path):
    program = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"
    said = subprocess.run([slim, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_help_and_plan_need_neither(slim, tmp_path):
    helped = run(slim, tmp_path, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "doctor" in helped.stdout
    planned = run(slim, tmp_path, "plan", "--rows", "1.3e9", "--gpu", "h100", "--gpus", "256")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "caption" in planned.stdout


def test_the_doctor_says_what_is_missing_and_which_extra_brings_it(slim, tmp_path):
    looked = run(slim, tmp_path, "doctor", "--conf", "base", "--conf", "laptop")
    assert looked.returncode == 1
    assert 'pyspark: want 4 or newer, found none: pip install "recap-spark[local]"' in looked.stdout
    assert 'torch: want 2 or newer, found none: pip install "recap-spark[caption]"' in looked.stdout
    assert "Traceback" not in looked.stderr + looked.stdout


def test_a_command_that_needs_an_extra_says_so_in_one_line(slim, tmp_path):
    started = run(slim, tmp_path, "fetch", "--conf", "conf/base.yml", "--conf", "laptop")
    assert started.returncode == 1
    (said,) = (line for line in started.stderr.splitlines() if "Error" in line)
    assert said.startswith("PlatformError: want pyspark, found none: pip install")
