"""What Spark forks its Python workers from: they find imported what each would import for itself

Named by `spark.python.daemon.module` in conf/base.yml. It is pyspark's own daemon behind some imports: always
tables' libraries, 3 s of CPU a worker, and models' where a stage asks for them, 20 s more. What is imported
before the fork is also in memory once, for all workers together.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from pyspark import daemon

if TYPE_CHECKING:  # the daemon starts no session
    from pyspark.sql import SparkSession

_ASKED_FOR = "RECAP_SPARK_WORKERS_IMPORT"
_MODELS = "models"

_TABLE_LIBRARIES = ("pyarrow", "pandas", "pyspark.worker", "pyspark.sql")
_MODEL_LIBRARIES = (
    "torch",
    "transformers.models.auto.image_processing_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
)

# A process that has threads, or CUDA, cannot be forked: the child has the locks of threads that it has not.
_SINGLE_THREADED = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of an allocator that Arrow brings and does not use
    "OPENBLAS_NUM_THREADS": "1",  # numpy's, which would be started by its import
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # whether there is a GPU is asked without starting CUDA
}

_environment = threading.Lock()


@contextmanager
def models_imported(spark: SparkSession) -> Iterator[None]:
    """What is sent to workers meanwhile runs in those that have models' libraries imported: Spark keeps a
    daemon for each environment that functions come with, and workers of one are not lent to another. On
    Spark Connect, where functions come with none, workers import for themselves.
    """
    from recap_spark.lake.connect import is_connect  # the daemon does without

    if is_connect(spark):
        yield
        return
    environment = spark.sparkContext.environment
    with _environment:
        environment[_ASKED_FOR] = _MODELS
        try:
            yield
        finally:
            del environment[_ASKED_FOR]


def main() -> None:
    """Import, and be pyspark's daemon; where a fork would not be safe then, that daemon without imports."""
    os.environ |= _SINGLE_THREADED | os.environ
    models = _MODEL_LIBRARIES if os.environ.get(_ASKED_FOR) == _MODELS else ()
    with redirect_stdout(sys.stderr):  # standard output is for the daemon's port
        _import(_TABLE_LIBRARIES + models)
    if found := _in_the_way():
        print(f"workers import for themselves: want {found} in the process that forks them", file=sys.stderr)
        os.execv(sys.executable, [sys.executable, "-m", "pyspark.daemon", *sys.argv[1:]])
    daemon.manager()


def _import(names: tuple[str, ...]) -> None:
    gc.disable()  # what is imported stays
    for name in names:
        with suppress(ImportError):  # a worker that needs it says so in its task's error
            import_module(name)
    gc.enable()
    gc.freeze()  # nor is it looked at in workers, which would give each a copy of its own


def _in_the_way() -> str | None:
    """What a fork would not survive, as what was wanted and what was found."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"1 thread, found {threads},"
    torch = sys.modules.get("torch")
    return "no CUDA, found it begun," if torch and torch.cuda.is_initialized() else None


if __name__ == "__main__":
    main()
