"""Which images were in the engine when a process died, recorded where the next process finds them

Before the engine takes some images, an entry with their uids is written; it is deleted when all of them have
their rows. After a death the entry is still there. The next process that is given one of its uids runs each
of them alone. An image is poison, and is not run again, once it was in the engine at two deaths or more and
alone there at one of them.

An entry is recognised by its uids, not by its task: no two live tasks have the same uid, so an entry with a
uid of this task's was left by a dead one. That holds across attempts, executors, hosts and drivers. Knows
neither Spark nor torch.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pyarrow import fs

from recap_spark.errors import PlatformError
from recap_spark.workers.partition import chunks

log = logging.getLogger(__name__)

M = TypeVar("M")
A = TypeVar("A")

_ENOUGH_DEATHS = 2
_READERS = 16

# What CUDA's libraries say where torch has no class of its own for it.
_CUDA_ERRORS = ("CUDA error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "device-side assert")


@dataclass(frozen=True)
class Deaths:
    """How often a process died with an image in the engine, and how often with this image alone."""

    times: int
    alone: int

    @property
    def poisonous(self) -> bool:
        """Whether the image is to blame: the death of a batch may be the fault of any of its images, so one
        death with the image alone is needed.
        """
        return self.times >= _ENOUGH_DEATHS and self.alone > 0


@dataclass(frozen=True)
class Journal:
    """A folder that every worker sees: a path, or a URL of an object store that Arrow knows."""

    folder: str

    def deaths(self) -> dict[str, Deaths]:
        """Every image that is, or was at a death, in an engine. Read before the first image."""
        store, root = _opened(self.folder)
        paths = [info.path for info in store.get_file_info(fs.FileSelector(root, allow_not_found=True))]
        found: dict[str, Deaths] = {}
        # Every engine at work has some entries here, and an object store takes its time over each.
        with ThreadPoolExecutor(_READERS) as pool:
            for uid, alone in chain.from_iterable(pool.map(partial(_entry, store), paths)):
                before = found.get(uid, Deaths(0, 0))
                found[uid] = Deaths(before.times + 1, before.alone + alone)
        return found

    def note(self, uids: Sequence[str]) -> str:
        """Record that these images go to an engine together. Returns the entry's name."""
        store, root = _opened(self.folder)
        store.create_dir(root, recursive=True)
        entry = f"{uuid.uuid4().hex}.json"
        with store.open_output_stream(f"{root}/{entry}") as file:
            file.write(json.dumps(list(uids)).encode())
        return entry

    def cross_out(self, entry: str) -> None:
        """Delete an entry: all of its images have their rows."""
        store, root = _opened(self.folder)
        # Gone already where another driver with this captioner has come to its end and cleared the journal.
        with suppress(FileNotFoundError):
            store.delete_file(f"{root}/{entry}")

    def clear(self) -> None:
        """Delete all entries, at the end of the stage, when every image has its row."""
        store, root = _opened(self.folder)
        store.delete_dir_contents(root, missing_dir_ok=True)


@dataclass
class _Flight:
    """The entries of one run of the engine, and which of their images have no row yet."""

    journal: Journal
    left: dict[str, set[str]] = field(default_factory=dict)

    def note(self, uids: Sequence[str]) -> None:
        if uids:
            self.left[self.journal.note(uids)] = set(uids)

    def answered(self, uids: Iterable[str]) -> None:
        through = set(uids)
        for waiting in self.left.values():
            waiting -= through
        self._cross_out([entry for entry, waiting in self.left.items() if not waiting])

    def end(self) -> None:
        """Delete the entries that are left: the run ended and nothing died."""
        self._cross_out(list(self.left))

    def _cross_out(self, entries: Sequence[str]) -> None:
        for entry in entries:
            self.journal.cross_out(entry)
            del self.left[entry]


@dataclass(frozen=True)
class Survivor(Generic[M, A]):
    """A `stream` for stream_partition that survives images which kill the engine.

    Every image gets its row from `stream`, or one from `poisoned` where it is poison. An entry of the journal
    holds `together` images in the order in which the engine takes them. The engine may answer in another
    order: the entry is deleted when the last of its images has its row. An image that was in an engine at a
    death waits until the others have ended and then has the engine to itself.
    """

    stream: Callable[[M, Iterator[A]], Iterator[pa.RecordBatch]]  # its rows have a `uid`
    engine_uid: Callable[[A], str | None]  # None: it never gets to the engine
    poisoned: Callable[[str], dict[str, Any]]
    journal: Journal
    together: int
    schema: pa.Schema

    def __call__(self, model: M, images: Iterator[A]) -> Iterator[pa.RecordBatch]:
        known = self.journal.deaths()
        suspects: list[tuple[str, A]] = []
        yield from self._answers(model, self._unsuspected(images, known, suspects))
        for uid, image in suspects:
            if known[uid].poisonous:
                log.error("image %s has killed an engine %d times", uid, known[uid].times)
                yield pa.RecordBatch.from_pylist([self.poisoned(uid)], schema=self.schema)
            else:
                yield from self._answers(model, [image])

    def _unsuspected(
        self, images: Iterable[A], known: Mapping[str, Deaths], suspects: list[tuple[str, A]]
    ) -> Iterator[A]:
        for image in images:
            uid = self.engine_uid(image)
            if uid is not None and uid in known:
                suspects.append((uid, image))
            else:
                yield image

    def _answers(self, model: M, images: Iterable[A]) -> Iterator[pa.RecordBatch]:
        """Rows of the stream. An entry stays where the process dies in here, or the accelerator fails: then
        PlatformError, since nothing after it in this process can be trusted. PySpark ends a worker that
        raised, so the next attempt has another process.
        """
        flight = _Flight(self.journal)
        try:
            for answers in self.stream(model, self._noted(images, flight)):
                flight.answered(answers.column("uid").to_pylist())
                yield answers
        except BaseException as error:
            if is_broken(error):
                inside = sum(len(waiting) for waiting in flight.left.values())
                log.error("the accelerator failed with %d images in the engine: %s", inside, error)
                raise PlatformError(f"the accelerator failed: {error}") from error
            flight.end()
            raise
        flight.end()

    def _noted(self, images: Iterable[A], flight: _Flight) -> Iterator[A]:
        for some in chunks(images, self.together):
            flight.note([uid for uid in map(self.engine_uid, some) if uid is not None])
            yield from some


def is_broken(error: BaseException) -> bool:
    """Whether the accelerator itself failed, after which the whole process has lost its CUDA context.

    Running out of memory does not count: the engine goes on with a smaller batch.
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
