"""A command that is told to stop cancels what runs, and says so in one line."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pytest
import typer

from recap_spark.commands.options import said_plainly

PATIENCE_S = 120  # other tests may have the cores
FOR_EVER_S = 600


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s"
        time.sleep(0.05)


def test_ctrl_c_while_a_session_starts_is_said_as_at_any_other_time(capsys):
    """pyspark's own handler, which raises KeyboardInterrupt, is in place then."""
    with pytest.raises(typer.Exit) as ended, said_plainly():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.startswith("stopped by Ctrl-C: what is committed is kept")


@pytest.mark.spark
@pytest.mark.parametrize(("stop", "by"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_stop_cancels_running_jobs_and_ends_with_one_line_and_its_exit_code(
    spark, capsys, caplog, stop, by
):
    tracker = spark.sparkContext.statusTracker()

    def is_at_work() -> bool:
        stages = map(tracker.getStageInfo, tracker.getActiveStageIds())
        return any(stage is not None and stage.numActiveTasks for stage in stages)

    def terminate() -> None:
        wait_for(is_at_work)
        os.kill(os.getpid(), stop)

    def sleeps(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(FOR_EVER_S)
        yield from batches

    before = signal.getsignal(stop)
    threading.Thread(target=terminate).start()
    endless = spark.range(1, numPartitions=1).mapInArrow(sleeps, "id bigint")
    with pytest.raises(typer.Exit) as ended, said_plainly():
        endless.collect()
    assert ended.value.exit_code == 128 + stop
    assert capsys.readouterr().err.splitlines() == [
        f"stopped by {by}: what is committed is kept; run the same command again to go on"
    ]
    assert caplog.records == []
    wait_for(lambda: not tracker.getActiveJobsIds())
    assert tracker.getActiveJobsIds() == []
    assert signal.getsignal(stop) is before
    assert spark.range(3).count() == 3  # the session is not lost with what ran in it
