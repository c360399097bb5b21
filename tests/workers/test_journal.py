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

from recap_spark.errors import PlatformError
from recap_spark.workers.journal import Deaths, Journal, Survivor, is_broken

ROOT = Path(__file__).parents[2]
ANSWER = pa.schema([("uid", pa.string()), ("status", pa.string()), ("beside", pa.int64())])

# One attempt of a task, as a process of its own: its engine dies of some images.
ATTEMPT = """
import json, os, sys
import pyarrow as pa
from recap_spark.workers.journal import Journal, Survivor

folder, uids, deadly = sys.argv[1], sys.argv[2], sys.argv[3]
SCHEMA = pa.schema([("uid", pa.string()), ("status", pa.string()), ("beside", pa.int64())])

def engine(model, images):
    if set(images) & set(deadly):
        os._exit(139)
    return pa.RecordBatch.from_pylist(
        [{"uid": uid, "status": "ok", "beside": len(images) - 1} for uid in images], schema=SCHEMA)

alive = Survivor(answer=engine, uid_of=str, poisoned=lambda uid: {"uid": uid, "status": "poison"},
                 journal=Journal(folder), schema=SCHEMA)
for start in range(0, len(uids), 4):
    for row in alive(None, list(uids[start : start + 4])).to_pylist():
        print(json.dumps(row))
"""


def attempt(folder: Path, uids: str, *, deadly: str) -> tuple[int, dict[str, dict[str, object]]]:
    """The exit code of one attempt, and its rows by uid."""
    command = [sys.executable, "-c", ATTEMPT, str(folder), uids, deadly]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode in (0, 139), ran.stderr
    return ran.returncode, {row["uid"]: row for row in map(json.loads, ran.stdout.splitlines())}


def survivor(folder: Path, answer) -> Survivor:
    poisoned = {"status": "poison"}
    return Survivor(
        answer=answer,
        uid_of=str,
        poisoned=lambda uid: poisoned | {"uid": uid},
        journal=Journal(str(folder)),
        schema=ANSWER,
    )


def test_an_image_that_kills_two_processes_is_poison_to_the_third_and_all_others_are_answered(tmp_path):
    codes = [attempt(tmp_path, "abcdefgh", deadly="f") for _ in range(3)]
    assert [code for code, _ in codes] == [139, 139, 0]
    rows = codes[-1][1]
    assert {uid: row["status"] for uid, row in rows.items()} == dict.fromkeys("abcdegh", "ok") | {
        "f": "poison"
    }
    assert list(rows) == list("abcdefgh")
    # Those that were beside it are suspects, and run alone; the others' batch is as it was.
    assert [rows[uid]["beside"] for uid in "abcdegh"] == [3, 3, 3, 3, 0, 0, 0]


def test_every_poison_of_a_batch_costs_one_more_process(tmp_path):
    codes = [attempt(tmp_path, "abcd", deadly="bd")[0] for _ in range(4)]
    assert codes == [139, 139, 139, 0]


def test_what_is_poison_stays_so_for_a_later_task_until_the_journal_is_cleared(tmp_path):
    for _ in range(3):
        attempt(tmp_path, "ab", deadly="b")
    assert attempt(tmp_path, "b", deadly="b")[1]["b"]["status"] == "poison"
    Journal(str(tmp_path)).clear()
    assert Journal(str(tmp_path)).deaths() == {}


def test_nothing_is_left_of_batches_that_came_through(tmp_path):
    code, rows = attempt(tmp_path, "abcdefgh", deadly="")
    assert (code, len(rows)) == (0, 8)
    assert list(tmp_path.iterdir()) == []


def test_a_death_among_others_alone_makes_no_poison():
    """Two executors preempted in the same batch say nothing about any of its images."""
    assert not Deaths(times=2, alone=0).poisonous
    assert not Deaths(times=1, alone=1).poisonous
    assert Deaths(times=2, alone=1).poisonous


def test_an_accelerator_s_failure_is_an_error_and_counts_as_a_death(tmp_path):
    def fails(model, images):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(PlatformError, match="illegal memory access"):
        survivor(tmp_path, fails)(None, ["a", "b"])
    assert Journal(str(tmp_path)).deaths() == {"a": Deaths(1, 0), "b": Deaths(1, 0)}


def test_an_error_of_our_own_is_no_death_and_passes_as_it_is(tmp_path):
    def fails(model, images):
        raise KeyError("bytes")

    with pytest.raises(KeyError):
        survivor(tmp_path, fails)(None, ["a"])
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
    with Journal(str(tmp_path)).flight(["a"]):
        Journal(str(tmp_path)).clear()
    assert Journal(str(tmp_path)).deaths() == {}


def test_an_entry_that_was_cut_off_while_written_is_no_death(tmp_path):
    (tmp_path / "cut.json").write_text('["a", "b')
    assert Journal(str(tmp_path)).deaths() == {}


def test_a_folder_that_no_worker_could_open_is_an_error_that_names_it():
    with pytest.raises(PlatformError, match="dbfs:/journal"):
        Journal("dbfs:/journal").deaths()
