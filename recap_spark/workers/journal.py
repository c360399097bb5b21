"""What was in the engine when a process died, kept where the next process finds it

A batch's uids are written down before the engine takes it and crossed out when it is through, so a death leaves
its batch behind. Whoever is given these uids next runs each alone; one that dies alone, and not for the first
time, is poison and is not run again.

An entry is known by its uids, not by its task: no two live tasks have the same uid, so an entry with one of
mine is a dead task's. That holds across attempts, executors, hosts and drivers. Knows neither Spark nor torch.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from recap_spark.errors import PlatformError

log = logging.getLogger(__name__)

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
            store.delete_file(path)
            raise
        store.delete_file(path)

    def clear(self) -> None:
        """Forget everything: for the stage's end, when every image has its row."""
        store, root = _opened(self.folder)
        store.delete_dir_contents(root, missing_dir_ok=True)


def answer_alive(
    model: Any,
    images: list[A],
    *,
    answer: Callable[[Any, list[A]], pa.RecordBatch],
    uid_of: Callable[[A], str],
    poisoned: Callable[[str], dict[str, Any]],
    journal: Journal,
) -> pa.RecordBatch:
    """`answer` for every image that has not killed an engine twice, and a row of `poisoned` for those.

    Rows are in the images' order. An image that was in an engine at a death has it to itself.
    """
    known = _known_deaths(journal)
    suspected = [uid_of(image) in known for image in images]
    rows: dict[str, pa.RecordBatch] = {}

    def run(some: list[A]) -> None:
        with journal.flight([uid_of(image) for image in some]):
            answers = answer(model, some)
        rows.update((uid_of(image), answers.slice(place, 1)) for place, image in enumerate(some))

    if clean := [image for image, is_suspect in zip(images, suspected, strict=True) if not is_suspect]:
        run(clean)
    for image in (image for image, is_suspect in zip(images, suspected, strict=True) if is_suspect):
        if not known[uid_of(image)].poisonous:
            run([image])
    return _in_order([uid_of(image) for image in images], rows, poisoned)
