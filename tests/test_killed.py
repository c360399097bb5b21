"""Killed anywhere, the same command run again ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import process_tree
import pyarrow as pa
import pyspark
import pytest
import yaml
from deltalake import DeltaTable, QueryBuilder
from repository import ROOT

from recap_spark.miniature.dataset import write_dataset
from recap_spark.miniature.server import Server, serve

pytestmark = pytest.mark.spark

CONF = [ROOT / "conf" / name for name in ("base.yml", "laptop.yml", "demo.yml")]
ROWS, UNITS, IN_FLIGHT = 60, 4, 1  # a unit for each kill, and one to begin with
PATIENCE_S = 600  # other tests may have the cores


@dataclass(frozen=True)
class Job:
    """`recap-spark all` over one lake, started as often as it is killed: in one process, or with executors of
    its own.
    """

    root: Path
    conf: list[Path]

    def start(self, *, executors: bool) -> subprocess.Popen[bytes]:
        conf = [*self.conf, *([_executors(self.root)] if executors else [])]
        options = [option for path in conf for option in ("--conf", str(path))]
        command = [sys.executable, "-m", "recap_spark.cli", "all", *options]
        environment = os.environ | {"SPARK_HOME": str(Path(pyspark.__file__).parent)}
        environment |= {"SPARK_SCALA_VERSION": "2.13", "SPARK_WORKER_DIR": str(self.root / "executors")}
        with (self.root / "job.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log, env=environment)

    def commits(self, table: str) -> int:
        """Commits that added rows: neither the one that made the table nor claims."""
        log = self.root / "recap.db" / table / "_delta_log"
        return sum(b'{"add":' in commit.read_bytes() for commit in log.glob("*.json"))

    def rows(self, table: str, *columns: str) -> list[tuple[object, ...]]:
        # Not by way of a pyarrow dataset, which knows no deletion vectors, and so not the images.
        held = QueryBuilder().register(table, DeltaTable(self.root / "recap.db" / table))
        found = pa.table(held.execute(f"SELECT {', '.join(columns)} FROM {table}").read_all())
        return [tuple(row.values()) for row in found.to_pylist()]

    def wait_for(self, process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert process.poll() is None, (self.root / "job.log").read_text()[-4000:]
            assert time.monotonic() < deadline, (self.root / "job.log").read_text()[-4000:]
            time.sleep(0.05)


@dataclass(frozen=True)
class Survivor:
    job: Job
    server: Server
    kept: list[dict[str, int]]  # before each kill in fetch: how often pictures in images had been asked for
    stopped: list[tuple[int, str]]  # exit code, and what was said, after Ctrl-C


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survivor]:
    """A job whose driver, a Python worker and an executor were killed in fetch, the latter two again in
    caption, where Ctrl-C ended it.
    """
    root = tmp_path_factory.mktemp("killed")
    with serve(root / "web") as server:
        write_dataset(root / "web", rows=ROWS, seed=5, base_url=server.base_url)
        job = Job(root, [*CONF, _overrides(root)])
        survivor = Survivor(job, server, [], [])

        first = job.start(executors=False)
        _kill_while_it_fetches(survivor, first, _decoding_workers)
        _kill_while_it_fetches(survivor, first, _driver)
        assert first.wait() == -signal.SIGKILL

        second = job.start(executors=True)
        _kill_while_it_fetches(survivor, second, _executor_processes)
        for victims in (_decoding_workers, _executor_processes):
            _kill_after_a_commit(job, second, victims, table="captions")
        _stop_after_a_commit(survivor, second, table="captions")

        third = job.start(executors=False)
        assert third.wait(timeout=PATIENCE_S) == 0, (root / "job.log").read_text()[-4000:]
        yield survivor


Victims = Callable[[int], list[int]]


def _kill_after_a_commit(job: Job, process: subprocess.Popen[bytes], victims: Victims, *, table: str) -> None:
    before = job.commits(table)
    job.wait_for(process, lambda: job.commits(table) > before)
    _kill(job, process, victims)


def _stop_after_a_commit(survivor: Survivor, process: subprocess.Popen[bytes], *, table: str) -> None:
    """As Ctrl-C does."""
    job = survivor.job
    before, log = job.commits(table), job.root / "job.log"
    job.wait_for(process, lambda: job.commits(table) > before)
    said = log.stat().st_size
    process.send_signal(signal.SIGINT)
    survivor.stopped.append((process.wait(PATIENCE_S), log.read_bytes()[said:].decode()))


def _kill(job: Job, process: subprocess.Popen[bytes], victims: Victims) -> None:
    found: list[int] = []

    def are_there() -> bool:
        found[:] = victims(process.pid)
        return bool(found)

    job.wait_for(process, are_there)
    os.kill(found[0], signal.SIGKILL)


def _kill_while_it_fetches(survivor: Survivor, process: subprocess.Popen[bytes], victims: Victims) -> None:
    """After a commit, when the next unit's pictures are being asked for."""
    job, before = survivor.job, survivor.job.commits("images")
    job.wait_for(process, lambda: job.commits("images") > before)
    kept = _asked_of_images(survivor)
    survivor.kept.append(kept)
    pictures = {_picture(url) for (url,) in job.rows("samples", "url")}
    job.wait_for(process, lambda: bool((_asked(survivor.server).keys() & pictures) - kept.keys()))
    _kill(job, process, victims)


def _asked_of_images(survivor: Survivor) -> dict[str, int]:
    """How often each picture that has a row in images has been asked for."""
    urls = dict(survivor.job.rows("samples", "uid", "url"))
    names = {_picture(urls[uid]) for (uid,) in survivor.job.rows("images", "uid")}
    return {name: times for name, times in _asked(survivor.server).items() if name in names}


def _asked(server: Server, *, route: str = "/") -> Counter[str]:
    """How often each picture was asked for, by one route or by all."""
    times: Counter[str] = Counter()
    for path, count in server.asked().items():
        times[_picture(path)] += count if path.startswith(route) else 0
    return times


def _picture(path: str) -> str:
    return path.rpartition("/")[2]


def test_no_uid_is_missing_and_none_is_there_twice(survivor):
    samples = Counter(survivor.job.rows("samples", "uid"))
    images = Counter(survivor.job.rows("images", "uid"))
    assert images == samples
    assert set(samples.values()) == {1}
    fetched = {(uid,) for uid, status in survivor.job.rows("images", "uid", "status") if status == "ok"}
    assert Counter(survivor.job.rows("captions", "uid")) == Counter(fetched)
    scores = Counter(survivor.job.rows("scores", "uid", "captioner", "scorer"))
    assert set(scores.values()) == {1}


def test_only_the_units_in_flight_were_fetched_again(survivor):
    """A picture is asked for once, and again only where a kill threw it away."""
    asked = _asked(survivor.server)
    for kept in survivor.kept:
        assert kept
        assert {name: asked[name] for name in kept} == kept
    units = {
        _picture(url): int(uid[:4], 16) * UNITS // 16**4
        for uid, url in survivor.job.rows("samples", "uid", "url")
    }
    sound = _asked(survivor.server, route="/images/")
    again = {units[picture] for picture, times in sound.items() if times > 1}
    assert len(again) <= len(survivor.kept) * IN_FLIGHT


def test_ctrl_c_ends_a_job_with_one_line_and_its_exit_code(survivor):
    ((code, said),) = survivor.stopped
    assert code == 128 + signal.SIGINT
    assert "stopped by Ctrl-C: what is committed is kept; run the same command again to go on" in said
    assert "Traceback" not in said


def test_another_process_reads_the_views_with_plain_spark_sql(survivor):
    query = (
        "SELECT * FROM mixed_captions(0.8, 7, 3) LIMIT 5; SELECT key, re_caption FROM recap_datacomp LIMIT 5"
    )
    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-sql"), "--database", "recap", "-e", query]
    environment = os.environ | {"SPARK_CONF_DIR": str(survivor.job.root / "spark-conf")}
    done = subprocess.run(
        command,
        env=environment,
        cwd=survivor.job.root,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len([line for line in done.stdout.splitlines() if "\t" in line]) == 10


def _overrides(root: Path) -> Path:
    # One at a time, of laptop.yml's one task: every further Python worker would load its own torch first.
    cut = {"units": UNITS, "in_flight": IN_FLIGHT}
    one = {"units": 1, "in_flight": 1}
    conf = {"spark.sql.shuffle.partitions": "2", "spark.databricks.delta.snapshotPartitions": "1"}
    values = {
        "lake": {"root": str(root)},
        "session": {"metastore": str(root / "metastore"), "log": str(root / "spark.log"), "conf": conf},
        "ingest": {"source": str(root / "web" / "metadata")},
        "fetch": {"work": cut},
        "caption": {"work": cut},
        "score": {"work": one},
        "export": {"folder": str(root / "exports"), "units": 1, "tasks_per_unit": 1},
    }
    path = root / "overrides.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def _executors(root: Path) -> Path:
    """One, in a process of its own, which is started again when it dies."""
    path = root / "executors.yml"
    conf = {"spark.executor.memory": "1g", "spark.executor.cores": "1", "spark.task.maxFailures": "4"}
    path.write_text(yaml.safe_dump({"session": {"master": "local-cluster[1,1,1024]", "conf": conf}}))
    return path


def _executor_processes(driver: int) -> list[int]:
    above = process_tree.parents()
    backends = [pid for pid in above if b"CoarseGrainedExecutorBackend" in process_tree.command(pid)]
    return [pid for pid in backends if driver in process_tree.ancestors(pid, above)]


def _driver(driver: int) -> list[int]:
    return [driver]


def _decoding_workers(driver: int) -> list[int]:
    """The Python workers that have pictures decoded: those at work for fetch or caption."""
    above = process_tree.parents()
    workers = set(process_tree.decoders().values())
    return [pid for pid in workers if driver in process_tree.ancestors(pid, above)]
