from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from repository import ROOT

from recap_spark.errors import PlatformError
from recap_spark.workers.fetching import executor_state as module
from recap_spark.workers.fetching.download import Request, download_all
from recap_spark.workers.fetching.executor_state import ExecutorState, state_in

# A worker process as Spark would start one: told its executor's folder, and what to fetch.
WORKER = """
import pickle, sys
from recap_spark.workers.fetching.download import Request, download_all
limits, urls = pickle.load(sys.stdin.buffer)
print("ready", flush=True)
sys.stdin.buffer.read(1)
requests = [Request(uid=str(number), url=url, sha256=None, attempts=0) for number, url in enumerate(urls)]
print(",".join(download.status for download in download_all(requests, settings=limits)))
"""


@contextmanager
def worker(folder, limits, urls):
    """A process that fetches once it gets a byte; it is killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"SPARK_LOCAL_DIRS": f"{folder},/not/this/one", "PYTHONPATH": str(ROOT)},
    ) as process:
        process.stdin.write(pickle.dumps((limits, urls)))
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def workers(folder, limits, urls, *, count):
    """Several processes that begin to fetch the same urls at the same moment."""
    with ExitStack() as stack:
        processes = [stack.enter_context(worker(folder, limits, urls)) for _ in range(count)]
        for process in processes:
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            process.stdin.write(b"!")
            process.stdin.flush()
        yield processes


def statuses(processes):
    return [
        status for process in processes for status in process.communicate()[0].decode().strip().split(",")
    ]


class Log:
    """What a server saw: when each request began, for which path, and how many were there at once."""

    def __init__(self, *, slow_s):
        self.times, self.paths = [], []
        self.at_once = self.most = 0
        self._slow_s = slow_s
        self._lock = threading.Lock()

    def answer(self, handler):
        with self._lock:
            self.times.append(time.monotonic())
            self.paths.append(handler.path)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self._slow_s)
        with self._lock:
            self.at_once -= 1
        handler.reply(200, b"")


@pytest.mark.parametrize(("shared_by", "most"), [("executor", {3}), ("process", {4, 5, 6})])
def test_two_processes_of_an_executor_hold_a_hosts_places_together(
    handled, limits, tmp_path, shared_by, most
):
    log = Log(slow_s=0.03)
    polite = replace(limits, connections_per_host=3, hosts_shared_by=shared_by)
    with handled(log.answer) as server, workers(tmp_path, polite, [server.url] * 40, count=2) as processes:
        assert statuses(processes) == ["ok"] * 80
    assert log.most in most


def test_executors_of_one_machine_do_not_wait_for_each_other(limits, tmp_path):
    one, other = (state_in(tmp_path / name) for name in ("one", "other"))
    assert one.take("host", places=1) is not None
    assert other.take("host", places=1) is not None
    assert one.take("host", places=1) is None


def test_two_processes_of_an_executor_keep_one_delay_at_a_host(handled, limits, tmp_path):
    log = Log(slow_s=0.0)
    polite = replace(limits, host_delay_s=0.1, hosts_shared_by="executor")
    with handled(log.answer) as server, workers(tmp_path, polite, [server.url] * 8, count=2) as processes:
        assert statuses(processes) == ["ok"] * 16
    assert max(log.times) - min(log.times) > 1.1  # fifteen delays; each process alone would take seven


def test_a_host_that_asks_one_process_of_an_executor_to_wait_is_left_alone_by_all(handled, limits, tmp_path):
    asked = []

    def answer(handler):
        asked.append(handler.path)
        handler.reply(429, b"", {"Retry-After": "50"})

    polite = replace(limits, longest_retry_after_s=60.0, connections_per_host=1, hosts_shared_by="executor")
    with handled(answer) as server, workers(tmp_path, polite, [server.url] * 5, count=2) as processes:
        assert statuses(processes) == ["throttled"] * 10
    assert len(asked) == 1


def test_two_processes_of_an_executor_ask_a_host_for_its_robots_txt_once(handled, limits, tmp_path):
    log = Log(slow_s=0.03)
    obedient = replace(limits, robots_txt="obey", hosts_shared_by="executor")
    with handled(log.answer) as server:
        for _ in range(2):  # and so do the executor's later tasks
            with workers(tmp_path, obedient, [server.url] * 10, count=2) as processes:
                assert statuses(processes) == ["ok"] * 20
    assert log.paths.count("/robots.txt") == 1


def test_what_one_process_of_an_executor_finds_dead_costs_the_others_no_deadline(handled, limits, tmp_path):
    log = Log(slow_s=2.0)
    wary = replace(
        limits,
        attempts=1,
        deadline_s=1.0,
        dead_after_failures=4,
        connections_per_host=4,
        hosts_shared_by="executor",
    )
    with handled(log.answer) as server, workers(tmp_path, wary, [server.url] * 20, count=2) as processes:
        found = Counter(statuses(processes))
    assert found == {"timeout": 4, "host_down": 36}
    assert len(log.paths) == 4


def test_failures_are_a_hosts_own_where_others_share_its_row(tmp_path, monkeypatch):
    one, other = state_in(tmp_path), ExecutorState(tmp_path)
    monkeypatch.setattr(module, "_hash", {"dead": 7, "sound": 7 + module._ROWS}.get)
    assert [one.add_failure("dead"), other.add_failure("dead")] == [1, 2]
    assert one.failures("sound")[0] == 0
    one.forgive("sound")
    assert other.failures("dead")[0] == 2
    other.forgive("dead")
    assert one.failures("dead")[0] == 0


def test_a_killed_process_leaves_its_places_to_the_others(handled, limits, tmp_path):
    hanging = threading.Event()
    asked = threading.Semaphore(0)

    def answer(handler):
        asked.release()
        hanging.wait(20)
        handler.reply(200, b"")

    shared = replace(limits, connections_per_host=2, hosts_shared_by="executor", deadline_s=30.0)
    state = state_in(tmp_path / "recap_spark")
    with handled(answer) as server, workers(tmp_path, shared, [server.url] * 2, count=1) as (process,):
        for _ in range(2):
            assert asked.acquire(timeout=20)
        assert state.take("127.0.0.1", places=2) is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        first, second = (state.take("127.0.0.1", places=2) for _ in range(2))
        hanging.set()
    assert first != second
    assert None not in (first, second)


def test_threads_of_one_process_share_its_places_too(handled, limits, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    log = Log(slow_s=0.02)
    shared = replace(limits, connections_per_host=2, hosts_shared_by="executor")

    def fetch(url):
        list(download_all([Request(uid="u", url=url, sha256=None, attempts=0)] * 15, settings=shared))

    with handled(log.answer) as server:
        threads = [threading.Thread(target=fetch, args=(server.url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(log.times), log.most) == (45, 2)


def test_threads_that_arrive_together_open_a_folder_once(tmp_path):
    together = threading.Barrier(8)

    def opened(_):
        together.wait()
        return state_in(tmp_path)

    with ThreadPoolExecutor(8) as threads:
        assert len({id(state) for state in threads.map(opened, range(8))}) == 1


def test_places_are_left_when_a_fetch_ends_early(web, limits, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    shared = replace(limits, connections_per_host=2, hosts_shared_by="executor")
    urls = [web.url("images/a.jpg"), *[web.url("drip/a.jpg")] * 5]
    downloads = download_all(
        [Request(uid=url, url=url, sha256=None, attempts=0) for url in urls], settings=shared
    )
    next(downloads)
    downloads.close()
    state = state_in(tmp_path / "recap_spark")
    assert None not in [state.take("127.0.0.1", places=2) for _ in range(2)]
    assert state.failures("127.0.0.1")[0] == 0  # it was we who stopped


def test_an_executor_that_is_not_there_is_an_error_that_says_what_to_do(limits, monkeypatch):
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    request = Request(uid="u", url="http://127.0.0.1/", sha256=None, attempts=0)
    with pytest.raises(PlatformError, match="set hosts_shared_by: process"):
        list(download_all([request], settings=replace(limits, hosts_shared_by="executor")))
