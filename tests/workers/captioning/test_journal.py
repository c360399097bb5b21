"""An image that kills the engine is found out, and kills no more than twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from repository import ROOT

from recap_spark.errors import PlatformError
from recap_spark.workers.captioning.journal import Deaths, Journal, Survivor, is_broken

ANSWER = pa.schema([("uid", pa.string()), ("status", pa.string()), ("beside", pa.int64())])

# A task's attempts one after the other, each a process of its own; their engine dies of some images. They are
# forked, and so do not pay for the imports again.
ATTEMPTS = """
import json, os, sys
import pyarrow as pa
from recap_spark.workers.captioning.journal import Journal, Survivor
from recap_spark.workers.partition import chunks

folder, tasks, deadly, engine = sys.argv[1:]
SCHEMA = pa.schema([("uid", pa.string()), ("status", pa.string()), ("beside", pa.int64())])

def answer(images, beside):
    rows = [{"uid": uid, "status": "ok", "beside": beside} for uid in images]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)

def generate(model, images):
    for some in chunks(images, 4):
        if set(some) & set(deadly):
            os._exit(139)
        yield answer(some, len(some) - 1)

def slots(model, images):
    # Three at once; the last to begin ends first, so that the first is there at every death.
    live = []
    for image in images:
        live.append(image)
        if image in deadly:
            os._exit(139)
        if len(live) == 3:
            yield answer([live.pop()], 2)
    yield from (answer([image], len(live) - 1) for image in live)

for number, uids in enumerate(json.loads(tasks)):
    if (child := os.fork()) == 0:
        alive = Survivor(stream=globals()[engine], engine_uid=str, journal=Journal(folder), together=4,
                         schema=SCHEMA, poisoned=lambda uid: {"uid": uid, "status": "poison"})
        for batch in alive(None, iter(uids)):
            for row in batch.to_pylist():
                print(json.dumps([number, row]), flush=True)
        os._exit(0)
    print(json.dumps([number, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]), flush=True)
"""

Attempt = tuple[int, dict[str, dict[str, object]]]


def attempts(folder: Path, *tasks: str, deadly: str, engine: str = "generate") -> list[Attempt]:
    """Each attempt's exit code, and its rows by uid."""
    command = [sys.executable, "-c", ATTEMPTS, str(folder), json.dumps(tasks), deadly, engine]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    codes = {number: code for number, code in said if isinstance(code, int)}
    return [
        (codes[at], {row["uid"]: row for number, row in said if number == at and isinstance(row, dict)})
        for at in range(len(tasks))
    ]


def survivor(folder: Path, stream) -> Survivor:
    return Survivor(
        stream=stream,
        engine_uid=str,
        poisoned=lambda uid: {"status": "poison", "uid": uid},
        journal=Journal(str(folder)),
        together=4,
        schema=ANSWER,
    )


@pytest.mark.parametrize(
    ("engine", "beside"), [("generate", [3, 3, 3, 3, 0, 0, 0]), ("slots", [0, 0, 0, 0, 0, 0, 0])]
)
def test_an_image_that_kills_two_processes_is_poison_to_the_third_and_all_others_are_answered(
    tmp_path, engine, beside
):
    *died, (code, rows) = attempts(tmp_path, *["abcdefgh"] * 3, deadly="f", engine=engine)
    assert [code for code, _ in died] == [139, 139]
    assert code == 0
    assert {uid: row["status"] for uid, row in rows.items()} == dict.fromkeys("abcdegh", "ok") | {
        "f": "poison"
    }
    # Those that were in the engine with it, or noted with one that was, are suspects and run alone.
    assert [rows[uid]["beside"] for uid in "abcdegh"] == beside


def test_every_poison_of_a_batch_costs_one_more_process(tmp_path):
    ran = attempts(tmp_path, *["abcd"] * 4, deadly="bd")
    assert [code for code, _ in ran] == [139, 139, 139, 0]


def test_what_is_poison_stays_so_for_a_later_task_until_the_journal_is_cleared(tmp_path):
    *_, (code, rows) = attempts(tmp_path, "ab", "ab", "ab", "b", deadly="b")
    assert (code, rows["b"]["status"]) == (0, "poison")
    Journal(str(tmp_path)).clear()
    assert Journal(str(tmp_path)).deaths() == {}


@pytest.mark.parametrize("engine", ["generate", "slots"])
def test_nothing_is_left_of_images_that_came_through(tmp_path, engine):
    ((code, rows),) = attempts(tmp_path, "abcdefgh", deadly="", engine=engine)
    assert (code, len(rows)) == (0, 8)
    assert list(tmp_path.iterdir()) == []


def test_a_death_among_others_alone_makes_no_poison():
    """Two executors preempted in the same batch say nothing about any of its images."""
    assert not Deaths(times=2, alone=0).poisonous
    assert not Deaths(times=1, alone=1).poisonous
    assert Deaths(times=2, alone=1).poisonous


def test_an_accelerator_s_failure_is_an_error_and_counts_as_a_death(tmp_path):
    def fails(model, images):
        assert list(images)
        yield from ()
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(PlatformError, match="illegal memory access"):
        list(survivor(tmp_path, fails)(None, iter("ab")))
    assert Journal(str(tmp_path)).deaths() == {"a": Deaths(1, 0), "b": Deaths(1, 0)}


def test_an_error_of_our_own_is_no_death_and_passes_as_it_is(tmp_path):
    def fails(model, images):
        assert list(images)
        yield from ()
        raise KeyError("bytes")

    with pytest.raises(KeyError):
        list(survivor(tmp_path, fails)(None, iter("a")))
    assert Journal(str(tmp_path)).deaths() == {}


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("cuBLAS error: CUBLAS_STATUS_EXECUTION_FAILED"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("shapes do not match"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_only_a_lost_context_is_a_broken_accelerator(error, broken):
    assert is_broken(error) is broken


def test_a_journal_that_another_driver_cleared_meanwhile_is_no_error(tmp_path):
    journal = Journal(str(tmp_path))
    entry = journal.note(["a"])
    journal.clear()
    journal.cross_out(entry)
    assert journal.deaths() == {}


def test_a_task_that_is_called_off_is_no_death(tmp_path):
    def answers(model, images):
        yield from (
            pa.RecordBatch.from_pylist([{"uid": uid, "status": "ok", "beside": 0}], schema=ANSWER)
            for uid in images
        )

    called_off = survivor(tmp_path, answers)(None, iter("abcd"))
    assert next(called_off).num_rows == 1
    assert len(Journal(str(tmp_path)).deaths()) == 4
    called_off.close()
    assert Journal(str(tmp_path)).deaths() == {}


def test_an_entry_that_was_cut_off_while_written_is_no_death(tmp_path):
    (tmp_path / "cut.json").write_text('["a", "b')
    assert Journal(str(tmp_path)).deaths() == {}


def test_a_folder_that_no_worker_could_open_is_an_error_that_names_it():
    with pytest.raises(PlatformError, match="dbfs:/journal"):
        Journal("dbfs:/journal").deaths()
