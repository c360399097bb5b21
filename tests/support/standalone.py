"""Spark's standalone cluster as processes of their own: a master and two workers with a made-up GPU each"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
WORKERS = 2
_GPUS = """#!/bin/sh\necho '{"name": "gpu", "addresses": ["0"]}'\n"""
_STARTS_WITHIN_S = 120


def bare_environment() -> dict[str, str]:
    """No Python of the developer's on the path, and none of the variables that would show Spark one."""
    kept = ("HOME", "JAVA_HOME", "JDK_JAVA_OPTIONS", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


@contextmanager
def standalone(folder: Path) -> Iterator[str]:
    """Yields the master's address; ends the processes, and so their executors."""
    script = folder / "gpu_here.sh"
    script.write_text(_GPUS)
    script.chmod(0o755)
    gpu = f"-Dspark.worker.resource.gpu.amount=1 -Dspark.worker.resource.gpu.discoveryScript={script}"
    with ExitStack() as running:
        master = folder / "master.log"
        host = ("--host", "127.0.0.1", "--webui-port", "0")
        running.enter_context(_process("master.Master", *host, "--port", "0", log=master))
        address = _said(master, r"Starting Spark master at (spark://\S+)")
        for number in range(WORKERS):
            log, work = folder / f"worker-{number}.log", folder / f"work-{number}"
            size = ("--cores", "2", "--memory", "2g", "--work-dir", str(work))
            worker = _process("worker.Worker", *host, *size, address, log=log, SPARK_WORKER_OPTS=gpu)
            running.enter_context(worker)
        for number in range(WORKERS):
            _said(folder / f"worker-{number}.log", "Successfully registered with master")
        yield address


@contextmanager
def _process(name: str, *words: str, log: Path, **variables: str) -> Iterator[None]:
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *words]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=bare_environment() | variables, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _said(log: Path, pattern: str) -> str:
    """What the pattern finds in a log: its group, or the whole."""
    last = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < last:
        if found := re.search(pattern, log.read_text()):
            return found[found.re.groups]
        time.sleep(0.2)
    raise TimeoutError(f"{log}: want {pattern!r}, found {log.read_text()[-2000:]}")
