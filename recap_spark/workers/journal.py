"""What was in the engine when a process died, kept where the next process finds it

A batch's uids are written down before the engine takes it and crossed out when it is through, so a death
leaves its batch behind. Whoever is given these uids next runs each alone; one that dies alone, and not for
the first time, is poison and is not run again.

An entry is known by its uids, not by its task: no two live tasks have the same uid, so an entry with one of
mine is a dead task's. That holds across attempts, executors, hosts and drivers. Knows neither Spark nor
torch.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pyarrow import fs

from recap_spark.errors import PlatformError

log = logging.getLogger(__name__)

M = TypeVar("M")
A = TypeVar("A")

_ENOUGH_DEATHS = 2

# What CUDA's libraries say where torch has no class of its own for it.
_CUDA_ERRORS = ("CUDA error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "device-side assert")


@dataclass(frozen=True)
class Deaths:
    """How often a process died with an image in the engine, and how often with nothing beside it."""

    times: int
    alone: int

    @property
    def poisonous(self) -> bool:
        """A batch's death speaks against all of its images; only one alone speaks against this one."""
        return self.times >= _ENOUGH_DEATHS and self.alone > 0


@dataclass(frozen=True)
class Journal:
    """A folder that every worker sees: a path, or a URL of an object store that Arrow knows."""

    folder: str

    def deaths(self) -> dict[str, Deaths]:
        """Every image that is, or was at a death, in an engine. Read before the first batch."""
        store, root = _opened(self.folder)
        found: dict[str, Deaths] = {}
        for info in store.get_file_info(fs.FileSelector(root, allow_not_found=True)):
            for uid, alone in _entry(store, info.path):
                before = found.get(uid, Deaths(0, 0))
                found[uid] = Deaths(before.times + 1, before.alone + alone)
        return found

    @contextmanager
    def flight(self, uids: Sequence[str]) -> Iterator[None]:
        """Around an engine's work on these images.

        The entry stays where the process dies inside, or the accelerator fails: then PlatformError, since
        nothing after it in this process can be trusted. PySpark ends a worker that raised, so the next
        attempt has another process.
        """
        store, root = _opened(self.folder)
        store.create_dir(root, recursive=True)
        path = f"{root}/{uuid.uuid4().hex}.json"
        with store.open_output_stream(path) as file:
            file.write(json.dumps(list(uids)).encode())
        try:
            yield
        except Exception as error:
            if is_broken(error):
                log.error("the accelerator failed with %d images in the engine: %s", len(uids), error)
                raise PlatformError(f"the accelerator failed: {error}") from error
            _cross_out(store, path)
            raise
        _cross_out(store, path)

    def clear(self) -> None:
        """Forget everything: for the stage's end, when every image has its row."""
        store, root = _opened(self.folder)
        store.delete_dir_contents(root, missing_dir_ok=True)


@dataclass
class Survivor(Generic[M, A]):
    """An `answer` for run_partition that outlives images which kill the engine.

    Every image gets its row of `answer`, in order, and one of `poisoned` if it has killed twice. An image
    that was in an engine at a death has it to itself. Spark unpickles one of these for each task, so `_known`
    is what the journal held when the task began.
    """

    answer: Callable[[M, list[A]], pa.RecordBatch]
    uid_of: Callable[[A], str]
    poisoned: Callable[[str], dict[str, Any]]
    journal: Journal
    schema: pa.Schema
    _known: dict[str, Deaths] | None = None

    def __call__(self, model: M, images: list[A]) -> pa.RecordBatch:
        if self._known is None:
            self._known = self.journal.deaths()
        known = self._known
        uids = [self.uid_of(image) for image in images]
        rows: dict[str, dict[str, Any]] = {}
        clean = [image for image, uid in zip(images, uids, strict=True) if uid not in known]
        suspects = [[image] for image, uid in zip(images, uids, strict=True) if uid in known]
        for some in [clean, *suspects] if clean else suspects:
            mine = [self.uid_of(image) for image in some]
            if known.get(mine[0], Deaths(0, 0)).poisonous:
                log.error("image %s has killed an engine %d times", mine[0], known[mine[0]].times)
                rows[mine[0]] = self.poisoned(mine[0])
                continue
            with self.journal.flight(mine):
                answers = self.answer(model, some)
            rows |= dict(zip(mine, answers.to_pylist(), strict=True))
        return pa.RecordBatch.from_pylist([rows[uid] for uid in uids], schema=self.schema)


def is_broken(error: Exception) -> bool:
    """Whether the accelerator itself failed: CUDA's context is then lost to the whole process.

    Out of memory is not among it: an engine goes on with a smaller batch.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return (
        isinstance(error, RuntimeError)
        and not isinstance(error, torch.OutOfMemoryError)
        and any(said in str(error) for said in _CUDA_ERRORS)
    )


def _opened(folder: str) -> tuple[fs.FileSystem, str]:
    # Hadoop's name for S3; Arrow has the other.
    address = folder.replace("s3a://", "s3://", 1)
    try:
        if ":/" in address:
            store, root = fs.FileSystem.from_uri(address)
        else:
            store, root = fs.LocalFileSystem(), address
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PlatformError(
            f"journal: want a path or a URL that Arrow knows, found {folder}: {error}"
        ) from error
    return store, root.rstrip("/")


def _cross_out(store: fs.FileSystem, path: str) -> None:
    # Gone already where another driver with this captioner has come to its end and cleared the journal.
    with suppress(FileNotFoundError):
        store.delete_file(path)


def _entry(store: fs.FileSystem, path: str) -> list[tuple[str, bool]]:
    """Uids of one entry, and whether there is only one.

    One that is gone was crossed out meanwhile; one cut off was being written, before the engine had it.
    """
    try:
        with store.open_input_file(path) as file:
            uids = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return []
    return [(uid, len(uids) == 1) for uid in uids]
