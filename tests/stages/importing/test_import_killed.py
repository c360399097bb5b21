"""Killed in the middle of an import, the same command run again ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import process_tree
import pytest
from PIL import Image
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from rich.console import Console

from recap_spark.progress import Progress
from recap_spark.stages.importing import import_images
from recap_spark.tables import IMAGES

pytestmark = pytest.mark.spark

FILES, EACH = 2, 6


def uid(file: int, place: int) -> str:
    return hashlib.md5(f"{file}/{place}".encode()).hexdigest()


def write_shard(path: Path, file: int) -> None:
    """Pictures under their uids; some take a moment to decode."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for place in range(EACH):
            side = 7_500 if place % 2 else 20
            out = io.BytesIO()
            Image.new("L", (side, side + file), place).save(out, "PNG", compress_level=1)
            info = tarfile.TarInfo(f"{uid(file, place)}.png")
            info.size = len(out.getvalue())
            archive.addfile(info, io.BytesIO(out.getvalue()))


def decoding_workers() -> set[int]:
    """The Python workers of this session's tasks that have a decoder at their side."""
    above = process_tree.parents()
    workers = set(process_tree.decoders().values())
    return {worker for worker in workers if os.getpid() in process_tree.ancestors(worker, above)}


def kill_workers(killed: set[int], *, after: Callable[[], bool], until: threading.Event) -> None:
    while not until.is_set():
        if after():
            for worker in decoding_workers():
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                killed.add(worker)
        time.sleep(0.01)


def test_every_picture_is_there_once_after_an_import_whose_workers_were_killed(filled, settings, tmp_path):
    lake = filled(samples=[{"uid": uid(file, place)} for file in range(FILES) for place in range(EACH)])
    for file in range(FILES):
        write_shard(tmp_path / "shards" / f"{file:05d}.tar", file)
    changed = {"source": str(tmp_path / "shards"), "files_per_commit": 1, "tasks_per_commit": 1}
    asked = settings.model_copy(update={"import_images": settings.import_images.model_copy(update=changed)})
    log = tmp_path / "lake" / "images" / "_delta_log"

    def first_file_is_in() -> bool:
        return any(b'{"add":' in commit.read_bytes() for commit in log.glob("*.json"))

    killed: set[int] = set()
    over = threading.Event()
    killer = threading.Thread(
        target=kill_workers, args=(killed,), kwargs={"after": first_file_is_in, "until": over}
    )
    killer.start()
    try:
        with pytest.raises((Py4JError, PySparkException)):
            import_images.run(lake, asked, Progress(Console(quiet=True)))
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 4  # every attempt of the task
    first = {row["uid"] for row in lake.read(IMAGES).select("uid").collect()}
    assert first == {uid(0, place) for place in range(EACH)}

    counts = import_images.run(lake, asked, Progress(Console(quiet=True)))
    assert counts == {"added": EACH}
    found = Counter((row["uid"], row["status"]) for row in lake.read(IMAGES).collect())
    assert found == Counter((uid(file, place), "ok") for file in range(FILES) for place in range(EACH))
