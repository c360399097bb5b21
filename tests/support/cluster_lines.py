"""A platform's line → the same on the local standalone cluster

What is the platform's alone is put in terms of the local cluster, and nothing else is changed:

| of the platform | here |
| --- | --- |
| `--master yarn`, `k8s://…`, or none | the local cluster's master |
| `--deploy-mode cluster` | a driver in an empty folder with the job, `--files` and unpacked `--archives` |
| `s3://…/NAME`, `gs://…/NAME` | the file NAME of the folder that stands for the bucket |
| recap-full.tar.gz | recap-slim.tar.gz: GPUs are made up, and nothing is captioned |
| EMR's and Dataproc's own JARs of Delta | those of Ivy's cache, by spark.jars alone, without Delta's Python |
| `--packages` | the same of Ivy's cache, without what Spark's distribution has already |
| images: /opt/environment, /opt/recap_spark | the unpacked environment, jobs/ |
| YARN's and the GPU plugin's discovery | the workers' own made-up script |
| spark.kubernetes.*, spark.yarn.*, instances, vendors | left out |
| variables of serverless drivers | spark.pyspark.python and spark.pyspark.driver.python |

The driver's folder is as Spark makes it on YARN and Kubernetes; that a real resource manager starts the
driver is not shown.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from repository import ROOT
from standalone import SPARK_HOME, bare_environment

from recap_spark.machine.session import ALREADY_SHIPPED

_LEFT_OUT = ("spark.kubernetes.", "spark.yarn.", "spark.executor.instances", "spark.executor.resource.gpu.")
_PYTHONS = {
    "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": "spark.pyspark.driver.python",
    "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": "spark.pyspark.python",
    "spark.dataproc.driverEnv.PYSPARK_PYTHON": "spark.pyspark.driver.python",
    "spark.executorEnv.PYSPARK_PYTHON": "spark.pyspark.python",
}


@dataclass(frozen=True)
class Here:
    """What stands for the platform."""

    master: str
    bucket: Path  # recap-slim.tar.gz, recap_spark.py, gpus.sh and the settings file
    environment: Path  # the archive, unpacked
    jars: tuple[str, ...]  # Delta's


@dataclass
class Line:
    """What a line asks for, whichever program it is of."""

    job: str = ""
    words: list[str] = field(default_factory=list)
    mode: str = "client"
    archives: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    packages: str | None = None
    conf: dict[str, str] = field(default_factory=dict)


def read_line(program: str, words: list[str]) -> Line:
    """Of spark-submit, `gcloud dataproc … submit pyspark` or `aws … start-job-run`."""
    if program == "spark-submit":
        return _submit(words)
    if program == "gcloud":
        return _gcloud(words)
    driver = json.loads(words[words.index("--job-driver") + 1])
    (asked,) = driver.values()
    line = _submit(
        [*shlex.split(asked["sparkSubmitParameters"]), asked["entryPoint"], *asked["entryPointArguments"]]
    )
    line.mode = "cluster"
    return line


def run_line(line: Line, here: Here, *, folder: Path, start: Path) -> subprocess.CompletedProcess[str]:
    """Run it; in cluster mode in `folder`, which is empty before, else where it was typed."""
    if line.mode == "cluster":
        start = folder
        for file in [line.job, *line.files]:
            shutil.copy(_local(file, here), folder)
        for archive in line.archives:
            path, _, name = archive.partition("#")
            with tarfile.open(_local(path, here)) as packed:
                packed.extractall(folder / name, filter="tar")
        job = Path(line.job).name
    else:
        job = str(_local(line.job, here))
    command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", here.master]
    for archive in line.archives:
        path, hash_, name = archive.partition("#")
        command += ["--archives", f"{_local(path, here)}{hash_}{name}"]
    command += ["--packages", line.packages, "--exclude-packages", ALREADY_SHIPPED] if line.packages else []
    for key, value in _conf(line, here).items():
        command += ["--conf", f"{key}={value}"]
    env = bare_environment() | {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command += [job, *line.words]
    return subprocess.run(
        command, cwd=start, env=env, capture_output=True, text=True, timeout=900, check=False
    )


def _conf(line: Line, here: Here) -> dict[str, str]:
    conf = {_PYTHONS.get(key, key): value for key, value in line.conf.items()}
    conf = {key: value for key, value in conf.items() if not key.startswith(_LEFT_OUT)}
    conf |= {
        key: value.replace("/opt/environment", str(here.environment))
        for key, value in conf.items()
        if key.startswith("spark.pyspark")
    }
    if "spark.jars" in conf or not line.packages:
        conf["spark.jars"] = ",".join(here.jars)
    conf.pop("spark.submit.deployMode", None)
    conf.pop("spark.jars.ivy", None)
    return conf


def _local(place: str, here: Here) -> Path:
    if place.startswith("local:///opt/recap_spark/"):
        return ROOT / "jobs" / Path(place).name
    if "://" in place or place.startswith("dist/"):
        return here.bucket / Path(place).name.replace("recap-full", "recap-slim")
    return Path(place).resolve() if Path(place).exists() else here.bucket / place


def _submit(words: list[str]) -> Line:
    line, rest = Line(), list(words)
    while rest and rest[0].startswith("--"):
        option, value = rest.pop(0), rest.pop(0)
        if option == "--conf":
            key, _, held = value.partition("=")
            line.conf[key] = held
        elif option in ("--archives", "--files"):
            getattr(line, option[2:]).extend(value.split(","))
        elif option == "--packages":
            line.packages = value
        elif option == "--deploy-mode":
            line.mode = value
        elif option not in ("--master", "--name"):
            raise ValueError(f"want an option of spark-submit that is known here, found {option}")
    line.job, *line.words = rest
    return line


def _gcloud(words: list[str]) -> Line:
    at = words.index("pyspark") + 1
    options, line = words[at + 1 : words.index("--")], Line(job=words[at])
    line.words = words[words.index("--") + 1 :]
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option == "--properties":
            line.conf |= dict(pair.split("=", 1) for pair in value.split(","))
        elif option in ("--archives", "--files"):
            getattr(line, option[2:]).extend(value.split(","))
        elif option not in ("--cluster", "--region", "--version", "--deps-bucket"):
            raise ValueError(f"want an option of gcloud that is known here, found {option}")
    line.mode = "cluster" if words[1] == "batches" else line.conf.get("spark.submit.deployMode", "client")
    return line
