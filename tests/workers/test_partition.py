"""A partition runs through reader, pool and engine in order, and a model is loaded once."""

import os
import threading
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from recap_spark.errors import PlatformError, WeightsError
from recap_spark.workers.partition import ahead, loaded, run_partition

ANSWER = pa.schema([("uid", pa.string()), ("size", pa.int64())])


@dataclass(frozen=True)
class Spec:
    """A model that doubles, and remembers in `loads` where it was loaded."""

    name: str
    batch_size: int = 4
    decode_threads: int = 2
    loads: list[str] = field(default_factory=list, hash=False, compare=False, repr=False)

    def load(self, device: str) -> "Spec":
        self.loads.append(device)
        return self


def batches(*sizes: int) -> list[pa.RecordBatch]:
    uids = iter(f"{number:03d}" for number in range(sum(sizes)))
    return [pa.RecordBatch.from_pylist([{"uid": next(uids)} for _ in range(size)]) for size in sizes]


def run(spec: Spec, parts: list[pa.RecordBatch], **changed: object) -> list[pa.RecordBatch]:
    def answer(model: Spec, rows: list[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([{"uid": uid, "size": len(rows)} for uid in rows], schema=ANSWER)

    stages = {"device": lambda: "cpu", "prepare": lambda model, row: row["uid"], "answer": answer} | changed
    return list(run_partition(parts, spec=spec, **stages))


def test_batches_span_arrow_s_own_and_rows_stay_in_order():
    answers = run(Spec("order"), batches(3, 0, 5, 2))
    assert [batch.num_rows for batch in answers] == [4, 4, 2]
    assert [uid for batch in answers for uid in batch["uid"].to_pylist()] == [f"{n:03d}" for n in range(10)]


def test_an_empty_partition_never_loads_the_model():
    spec = Spec("empty")
    assert run(spec, batches(0)) == []
    assert spec.loads == []


def test_a_model_is_loaded_once_for_many_partitions_and_again_for_another_device():
    spec = Spec("once")
    for device in ("cuda:0", "cuda:0", "cuda:1", "cuda:1", "cuda:0"):
        run(spec, batches(2), device=lambda device=device: device)
    assert spec.loads == ["cuda:0", "cuda:1", "cuda:0"]


def test_an_equal_spec_from_another_task_finds_the_model_that_is_there():
    first, second = Spec("same"), Spec("same")
    assert loaded(first, "cpu") is loaded(second, "cpu")
    assert second.loads == []


@pytest.mark.parametrize("part", ["prepare", "answer", "batches"])
def test_an_exception_in_any_part_reaches_the_caller_and_leaves_no_thread(part):
    def broken(*_: object) -> object:
        raise OSError(f"{part} is broken")

    def broken_batches():
        yield from batches(9)
        raise OSError("batches is broken")

    before = threading.active_count()
    parts = broken_batches() if part == "batches" else batches(9)
    changed = {} if part == "batches" else {part: broken}
    with pytest.raises(OSError, match=f"{part} is broken"):
        run(Spec(part), parts, **changed)
    assert threading.active_count() == before


def test_the_reader_stays_a_bounded_way_ahead():
    drawn = []

    def numbers():
        for number in range(100):
            drawn.append(number)
            yield number

    items = ahead(numbers(), size=3)
    assert next(items) == 0
    for _ in range(50):
        threading.Event().wait(0.002)
    # One is taken, three wait, and one more is in the reader's hand.
    assert len(drawn) <= 5
    items.close()


def test_a_model_that_cannot_be_loaded_is_tried_once_an_executor(tmp_path, monkeypatch):
    class Damaged(Spec):
        def load(self, device: str) -> Spec:
            super().load(device)
            raise WeightsError("model.safetensors: want 9 bytes, found 8")

    damaged, sound = Damaged("damaged"), Spec("sound")
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    for device in ("cuda:0", "cuda:1"):
        with pytest.raises(WeightsError, match="want 9 bytes, found 8"):
            loaded(damaged, device)
    assert damaged.loads == ["cuda:0"]
    assert loaded(sound, "cuda:0") is sound
    (tmp_path / "next").mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "next"))
    with pytest.raises(WeightsError):
        loaded(damaged, "cuda:0")
    assert damaged.loads == ["cuda:0", "cuda:0"]


def test_a_model_that_was_mended_meanwhile_is_loaded(tmp_path, monkeypatch):
    class Mended(Spec):
        def load(self, device: str) -> Spec:
            if len(super().load(device).loads) == 1:
                raise WeightsError("model.safetensors: want 9 bytes, found 8")
            return self

    mended = Mended("mended")
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    with pytest.raises(WeightsError):
        loaded(mended, "cuda:0")
    (note,) = tmp_path.iterdir()
    os.utime(note, (0, 0))
    assert loaded(mended, "cuda:0") is mended


def test_an_accelerator_s_own_fault_is_not_remembered(tmp_path, monkeypatch):
    class Unlucky(Spec):
        def load(self, device: str) -> Spec:
            super().load(device)
            raise PlatformError("no memory left on the GPU")

    unlucky = Unlucky("unlucky")
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    for _ in range(2):
        with pytest.raises(PlatformError):
            loaded(unlucky, "cuda:0")
    assert len(unlucky.loads) == 2
