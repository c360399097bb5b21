"""Whoever waits for a stage sees it move."""

import logging
import time

from rich.console import Console

from recap_spark.progress import Progress


def reported(caplog, *, underway=None, lines=2, every_s=0.02):
    """What a stage logs that works until there are so many lines."""
    caplog.set_level(logging.INFO, logger="recap_spark.progress")
    quiet = Progress(Console(quiet=True))
    with quiet.stage("fetch", rows=10, underway=underway, every_s=every_s) as advance:
        deadline = time.monotonic() + 30
        while len(caplog.records) < lines and time.monotonic() < deadline:
            time.sleep(0.005)
        advance(10, note="unit 0 of 1")
    return [record.message for record in caplog.records]


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(caplog):
    first, *_, last = reported(caplog)
    assert first.startswith("fetch: 0 of 10 rows, 0.0 rows/s, time left unknown (begins)")
    assert last.startswith("fetch: 10 of 10 rows")
    assert last.endswith("0 s left (unit 0 of 1)")


def test_rows_of_a_step_that_has_not_ended_count(caplog):
    lines = reported(caplog, underway=lambda: 4)
    assert lines[0].startswith("fetch: 4 of 10 rows")
    assert " s left" in lines[0]


def test_no_more_rows_are_shown_than_there_are(caplog):
    assert all(" 10 of 10 rows" in line for line in reported(caplog, underway=lambda: 40))


def test_a_stage_shorter_than_the_pause_has_its_last_line(caplog):
    assert len(reported(caplog, lines=0, every_s=60)) == 1
