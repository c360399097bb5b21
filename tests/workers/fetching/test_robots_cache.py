from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import ExitStack, closing

from repository import ROOT

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.robots_cache import Answer, RobotsCache, Shelf


def answer(text="User-agent: *\nDisallow: /", *, for_s=60.0, status=None, detail=None):
    return Answer(text, status, detail, time.time() + for_s)


def test_the_longest_unused_answers_are_forgotten_beyond_the_number_and_the_size():
    by_number = RobotsCache(entries=2, text_bytes=1000, shelf=None)
    for origin in ("a", "b"):
        by_number.put(origin, answer())
    by_number.get("a")
    by_number.put("c", answer())
    assert [origin for origin in "abc" if by_number.get(origin)] == ["a", "c"]

    by_size = RobotsCache(entries=100, text_bytes=100, shelf=None)
    for origin in ("a", "b", "b", "c"):
        by_size.put(origin, answer("x" * 50))
    assert [origin for origin in "abc" if by_size.get(origin)] == ["b", "c"]


def test_an_answer_is_good_until_it_expires():
    cache = RobotsCache(entries=2, text_bytes=1000, shelf=None)
    cache.put("a", answer(for_s=-1.0))
    assert cache.get("a") is None


def test_a_shelf_gives_every_process_what_one_of_them_learnt(tmp_path):
    path = tmp_path / "robots.sqlite"
    refusal = answer("", status=FetchStatus.CONNECT, detail="refused")
    with (
        closing(Shelf(path, largest_bytes=1 << 20)) as one,
        closing(Shelf(path, largest_bytes=1 << 20)) as other,
    ):
        one.put("a", answer())
        one.put("b", refusal)
        one.put("c", answer(for_s=-1.0))
        found = RobotsCache(entries=10, text_bytes=1000, shelf=other)
        assert found.get("a").text == answer().text
        assert found.get("b") == refusal
        assert found.get("c") is None


def test_a_full_shelf_starts_afresh_and_stays_within_its_size(tmp_path):
    path = tmp_path / "robots.sqlite"
    with closing(Shelf(path, largest_bytes=1 << 20)) as shelf:
        for number in range(60):
            shelf.put(str(number), answer(random.randbytes(25_000).hex()))
        kept = [number for number in range(60) if shelf.get(str(number))]
    assert kept[-1] == 59
    assert 0 < len(kept) < 21
    assert path.stat().st_size <= 1 << 20


FILLER = """
import random, sys, time
from pathlib import Path
from recap_spark.workers.fetching.robots_cache import Answer, Shelf
shelf = Shelf(Path(sys.argv[1]), largest_bytes=1 << 20)
print("open", flush=True)
for number in range(int(sys.argv[2])):
    text = "x" * random.randint(0, 60_000)
    shelf.put(f"{sys.argv[3]} {number}", Answer(text, None, None, time.time() + 100.0))
"""


def test_processes_that_fill_a_shelf_at_once_and_one_that_is_killed_do_not_break_it(tmp_path):
    path = tmp_path / "robots.sqlite"
    with closing(Shelf(path, largest_bytes=1 << 20)) as shelf, ExitStack() as stack:
        fillers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", FILLER, str(path), str(times), name],
                    stdout=subprocess.PIPE,
                    cwd=ROOT,
                )
            )
            for name, times in (("one", 150), ("other", 150), ("killed", 100_000))
        ]
        for filler in fillers:
            assert filler.stdout.readline() == b"open\n"
        *living, killed = fillers
        time.sleep(0.1)
        killed.kill()
        assert [filler.wait() for filler in living] == [0, 0]
        shelf.put("after", answer())
        assert shelf.get("after") is not None
