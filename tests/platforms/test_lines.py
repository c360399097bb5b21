"""Every line that the platforms' scripts and README submit runs on a cluster of processes here.

From a packed environment, which `make test-platforms` makes first. What stands for a platform:
tests/support/cluster_lines.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_lines import Here, read_line, run_line
from deltalake import DeltaTable
from readme import TEXT
from repository import ROOT
from standalone import SPARK_HOME, bare_environment, standalone

from recap_spark.miniature.dataset import write_dataset

pytestmark = pytest.mark.platforms

ROWS = 40
PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
GIVEN = {
    "PACKED": "s3://bucket/recap",
    "SETTINGS": "mine.yml",
    "EXECUTORS": "2",
    "APPLICATION": "application",
    "CLUSTER": "cluster",
    "ROLE": "role",
    "REGION": "region",
    "API": "https://host:6443",
    "IMAGE": "image",
    "FULL": "image",
    "DELTA": PACKAGE,
    "UPLOADS": "s3a://bucket/uploads",
}
PROGRAMS = ("spark-submit", "gcloud", "aws")
SCRIPTS = sorted(path for path in ROOT.glob("jobs/*/*.sh") if path.stem not in ("cluster", "gpu_nodes"))
GPU = ("submit_gpu", "eks")
SHIM = """#!/bin/sh
exec {python} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' {program} "$@" >>{log}
"""
SETTINGS = """
based_on: [base, {base}]
lake: {{root: {root}, namespace: null}}
ingest: {{source: {source}}}
tracking: {{uri: {tracking}}}
fetch: {{limits: {{contact_url: https://us.test/bot}}}}
session:
  conf:
    spark.executor.cores: "2"
    spark.executor.memory: 1g
    spark.task.resource.gpu.amount: "0.5"
    spark.ui.enabled: "false"
    spark.driver.host: 127.0.0.1
    spark.driver.bindAddress: 127.0.0.1
    spark.sql.shuffle.partitions: "2"
    spark.scheduler.minRegisteredResourcesRatio: "1.0"
    spark.locality.wait: "0"
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """The cluster, a packed environment in a folder that stands for a bucket, and Delta's JARs."""
    archive = ROOT / "dist" / "recap-slim.tar.gz"
    bucket = tmp_path_factory.mktemp("bucket")
    (bucket / archive.name).symlink_to(archive)
    for name in ("recap_spark.py", "gpus.sh"):
        shutil.copy(ROOT / "jobs" / name, bucket)
    environment = tmp_path_factory.mktemp("environment")
    with tarfile.open(archive) as packed:
        packed.extractall(environment, filter="tar")
    with standalone(tmp_path_factory.mktemp("cluster")) as master:
        yield Here(master, bucket, environment, delta_jars())


def delta_jars() -> tuple[str, ...]:
    """Delta's, as spark-submit's --packages leaves them."""
    folders = sorted(Path.home().glob(".ivy2*/jars"))
    (folder,) = (each for each in folders if list(each.glob("io.delta_delta-spark_4.2*")))
    return tuple(str(path) for path in sorted(folder.glob("io.*.jar")))


def settings(folder: Path, *, base: str) -> str:
    """The text of mine.yml for a lake of 40 rows of metadata."""
    source = folder / "web"
    write_dataset(source, rows=ROWS, seed=1, base_url="http://127.0.0.1:1")
    places = {"root": folder / "lake", "source": source / "metadata", "tracking": folder / "mlruns"}
    text = SETTINGS.format(base=base, **places)
    return text if base == "cluster" else text.replace('    spark.task.resource.gpu.amount: "0.5"\n', "")


def typed(script: str, words: list[str], folder: Path, **given: str) -> tuple[str, list[str]]:
    """The program that a script runs, with its words."""
    shims, log = folder / "bin", folder / "typed"
    shims.mkdir()
    for program in PROGRAMS:
        shim = shims / program
        shim.write_text(SHIM.format(python=sys.executable, program=program, log=log))
        shim.chmod(0o755)
    env = {"PATH": f"{shims}:/usr/bin:/bin"} | GIVEN | given
    subprocess.run(["sh", "-c", f'{script} "$@"', "sh", *words], cwd=ROOT, env=env, check=True)
    program, *line = json.loads(log.read_text())
    return program, line


def submitted(here: Here, tmp_path: Path, script: str, *, on_gpus: bool) -> tuple[str, Path]:
    """What a script's line says when it is run, and the lake it is run on."""
    (here.bucket / "mine.yml").write_text(settings(tmp_path, base="cluster" if on_gpus else "cpu_cluster"))
    words = ["doctor" if on_gpus else "ingest", "--conf", "mine.yml"]
    program, line = typed(script, words, tmp_path, SLIM=str(here.environment))
    driver = tmp_path / "driver"
    driver.mkdir()
    asked = read_line(program, line)
    start = here.bucket if asked.mode == "client" else driver
    ran = run_line(asked, here, folder=driver, start=start)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-5000:]
    return ran.stdout, tmp_path / "lake"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_line_of_every_script_runs(here, tmp_path, path):
    on_gpus = path.stem in GPU
    said, lake = submitted(here, tmp_path, f"sh {path.relative_to(ROOT)}", on_gpus=on_gpus)
    if on_gpus:
        assert "1 an executor, 0.5 a task; tasks saw the addresses 0" in said
        assert "a table was written and read" in said
    else:
        rows = sum(
            DeltaTable(str(lake / name)).to_pyarrow_table().num_rows for name in ("samples", "rejects")
        )
        assert rows == ROWS


def readme_line() -> str:
    """README's own spark-submit for any cluster, without its command."""
    (line,) = (
        line
        for line in TEXT.replace("\\\n", " ").splitlines()
        if line.startswith("    spark-submit") and "jobs/recap_spark.py" in line
    )
    return " ".join(line.split()).partition(" fetch ")[0]


def test_readmes_own_line_runs(here, tmp_path):
    line = readme_line().replace("PACKAGE", PACKAGE).replace("slim/bin", f"{here.environment}/bin")
    _, lake = submitted(here, tmp_path, line, on_gpus=False)
    assert DeltaTable(str(lake / "samples")).to_pyarrow_table().num_rows > 0


def test_an_environment_holds_nothing_of_the_machine_it_was_packed_on(here):
    program = (
        "import sys, ssl, sqlite3, ctypes, lzma, bz2, zlib, readline, pyarrow, deltalake, mlflow, PIL.Image\n"
        "used = {line.split()[-1] for line in open('/proc/self/maps') if '/' in line}\n"
        "own = {place for place in used if place.startswith(sys.prefix + '/')}\n"
        "print(sys.prefix, *sys.path, *(used - own), sep='\\n')"
    )
    python = here.environment / "bin" / "python"
    ran = subprocess.run(
        [python, "-I", "-c", program], env=bare_environment(), capture_output=True, text=True, check=True
    )
    prefix, *others = ran.stdout.split()
    assert prefix == str(here.environment)
    system = ("/lib/", "/usr/lib/", "/usr/share/", "/lib64/", prefix)
    assert [place for place in others if not place.startswith(system)] == []
    assert not list(here.environment.glob("lib/python*/site-packages/torch"))
    assert SPARK_HOME not in here.environment.parents
