"""Workers are forked from a process that has imported for them, and that a fork cannot hurt."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest

from recap_spark.machine import worker_daemon
from recap_spark.machine.worker_daemon import models_imported

MODULE = worker_daemon.__name__


SEEN = "daemon long, loaded string, cuda boolean"


def look(batches):
    """What a worker finds when it begins: its daemon, and which of models' libraries are there."""
    for _ in batches:
        loaded = [name for name in ("pandas", "torch", "transformers") if name in sys.modules]
        cuda = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
        row = {"daemon": os.getppid(), "loaded": ",".join(loaded), "cuda": cuda}
        yield pa.RecordBatch.from_pylist([row])


@pytest.mark.spark
def test_workers_of_models_find_their_libraries_imported_and_others_do_not_wait_for_them(spark):
    def seen(context):
        with context:
            frame = spark.range(2, numPartitions=2).mapInArrow(look, SEEN)
        return frame.collect()

    of_models, of_others = seen(models_imported(spark)), seen(nullcontext())
    assert {row["loaded"] for row in of_models} == {"pandas,torch,transformers"}
    assert {row["loaded"] for row in of_others} == {"pandas"}
    assert not any(row["cuda"] for row in of_models)
    (daemon,) = {row["daemon"] for row in of_models}
    assert daemon not in {row["daemon"] for row in of_others}


def start_daemon(**environment: str) -> tuple[bytes, str]:
    """The command line of a daemon that has told its port, and what it said on standard error."""
    with subprocess.Popen(
        [sys.executable, "-m", MODULE, "pyspark.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    ) as process:
        port = struct.unpack("!i", process.stdout.read(4))[0]
        assert 0 < port < 65536
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        _, said = process.communicate()
    return command, said.decode()


def test_a_daemon_that_would_fork_with_threads_imports_nothing(tmp_path):
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    starts_a_thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    (tmp_path / "pandas.py").write_text(f"import threading; {starts_a_thread}")
    command, said = start_daemon(PYTHONPATH=path)
    assert b"pyspark.daemon" in command
    assert "want 1 thread, found 2," in said


def test_a_library_that_is_missing_is_left_to_the_worker_that_needs_it(tmp_path):
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "pandas.py").write_text("raise ImportError('none here'); print('no port')")
    command, said = start_daemon(PYTHONPATH=path)
    assert MODULE.encode() in command
    assert "workers import for themselves" not in said


@pytest.mark.gpu
@pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="no GPU here")
def test_cuda_begins_in_the_workers():
    program = f"""
import os
from {MODULE} import _MODEL_LIBRARIES, _SINGLE_THREADED, _TABLE_LIBRARIES, _import, _in_the_way
os.environ |= _SINGLE_THREADED
_import(_TABLE_LIBRARIES + _MODEL_LIBRARIES)
assert _in_the_way() is None
import torch
for _ in range(2):
    if not (worker := os.fork()):
        torch.ones(8, device="cuda").sum().item()
        os._exit(0)
    assert os.waitpid(worker, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True)
