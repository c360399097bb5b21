"""Failures whose cause may pass are tried again, and each row is replaced once whatever happens meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image
from pyspark.sql import functions as F
from rich.console import Console
from uids import uid_of

from recap_spark.miniature.server import serve
from recap_spark.progress import Progress
from recap_spark.stages.fetch import retry
from recap_spark.tables import IMAGES

pytestmark = pytest.mark.spark

QUIET = Progress(Console(quiet=True))
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    (folder / "images").mkdir()
    for name in "abcdefgh":
        Image.effect_noise((16, 16), 60).save(folder / "images" / f"{name}.jpg")
    with serve(folder) as server:
        yield server


@pytest.fixture
def patient(settings):
    """Settings under which a retry needs no pause; `slices` of so many rows."""

    def of(**changes):
        wanted = settings.fetch.retry.model_copy(update={"attempts": 3, "wait_h": 0.0} | changes)
        return settings.model_copy(update={"fetch": settings.fetch.model_copy(update={"retry": wanted})})

    return of


def rows(lake) -> dict[str, tuple[str, int]]:
    """Status and attempts by uid; a uid that is there twice is an error."""
    found = [(row["uid"], (row["status"], row["attempts"])) for row in lake.read(IMAGES).collect()]
    assert len(found) == len(dict(found))
    return dict(found)


def failures(web, *, names="abcdefgh", status="http_5xx", path="images", attempts=1):
    """Samples whose last attempt failed, each a minute after the one before."""
    samples = [{"uid": uid_of(name), "url": f"{web.base_url}/{path}/{name}.jpg"} for name in names]
    images = [
        {
            "uid": uid_of(name),
            "status": status,
            "attempts": attempts,
            "fetched_at": START + timedelta(minutes=place),
        }
        for place, name in enumerate(names)
    ]
    return {"samples": samples, "images": images}


def asked(web, path="images") -> dict[str, int]:
    return {url: count for url, count in web.asked().items() if url.startswith(f"/{path}/")}


def newly(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {path: count - before.get(path, 0) for path, count in after.items() if count > before.get(path, 0)}


def test_a_failure_that_passed_is_replaced_in_place_and_asked_for_once(filled, web, patient):
    lake = filled(**failures(web))
    before = asked(web)
    assert retry.run(lake, patient(), QUIET) == 8
    assert rows(lake) == {uid_of(name): ("ok", 2) for name in "abcdefgh"}
    assert newly(before, asked(web)) == {f"/images/{name}.jpg": 1 for name in "abcdefgh"}
    assert lake.read(IMAGES).where(F.sha2("bytes", 256) == F.col("sha256")).count() == 8


def test_only_passing_causes_with_attempts_left_and_long_enough_ago_are_tried(filled, web, patient):
    recent = failures(web, names="d")
    recent["images"][0]["fetched_at"] = datetime.now(UTC)
    kinds = [
        failures(web, names="a", status="gone"),
        failures(web, names="b", attempts=3),
        failures(web, names="c", status="timeout", attempts=2),
        recent,
    ]
    lake = filled(**{table: [row for kind in kinds for row in kind[table]] for table in recent})
    assert retry.run(lake, patient(wait_h=1.0), QUIET) == 1
    assert rows(lake) == {
        uid_of("a"): ("gone", 1),
        uid_of("b"): ("http_5xx", 3),
        uid_of("c"): ("ok", 3),
        uid_of("d"): ("http_5xx", 1),
    }


def test_attempts_add_up_over_runs_and_then_end(filled, web, patient):
    lake = filled(**failures(web, names="ab", path="error"))
    assert [retry.run(lake, patient(), QUIET) for _ in range(3)] == [2, 2, 0]
    assert rows(lake) == {uid_of(name): ("http_5xx", 3) for name in "ab"}


def test_a_run_that_was_stopped_goes_on_with_what_is_left_the_oldest_first(filled, web, patient):
    lake = filled(**failures(web))
    with pytest.raises(InterruptedError):
        retry.run(lake, patient(rows_per_commit=2), StoppedAfterOneSlice())
    done = {uid for uid, (status, _) in rows(lake).items() if status == "ok"}
    assert done == {uid_of(name) for name in "ab"}

    before = asked(web)
    assert retry.run(lake, patient(rows_per_commit=2), QUIET) == 6
    assert rows(lake) == {uid_of(name): ("ok", 2) for name in "abcdefgh"}
    assert newly(before, asked(web)) == {f"/images/{name}.jpg": 1 for name in "cdefgh"}


def test_two_runs_at_once_replace_each_row_once(filled, web, patient):
    """Both have chosen the same rows before either has tried them."""
    lake = filled(**failures(web, path="error"))
    together = Together(threading.Barrier(2, timeout=120))
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(retry.run, lake, patient(rows_per_commit=4), together) for _ in range(2)]
        assert [run.result() for run in runs] == [8, 8]
    assert rows(lake) == {uid_of(name): ("http_5xx", 2) for name in "abcdefgh"}


class StoppedAfterOneSlice:
    @contextmanager
    def stage(self, name, *, rows, underway):
        def advance(rows, *, note):
            raise InterruptedError

        yield advance


class Together:
    def __init__(self, barrier):
        self.barrier = barrier

    @contextmanager
    def stage(self, name, *, rows, underway):
        self.barrier.wait()
        yield lambda rows, *, note: None
