"""The two sides of the fetch benchmark: our worker as Spark drives it, and img2dataset as its users do"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fetching.memory import watched

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.workers.fetching.fetcher import fetch_rows

A = TypeVar("A")

PROCESSES = 2  # of either side: as many as the machine that the targets are meant for has cores
_BATCH_ROWS = 128  # of Spark's Arrow batches, by conf/base.yml
_SCRIPT = Path(__file__).parent / "img2dataset_run.py"
_PEER_OPTIONS: dict[str, Any] = {
    "input_format": "parquet",
    "output_format": "dummy",  # ours writes nothing here either
    "processes_count": PROCESSES,
    "extract_exif": False,
    "compute_hash": "sha256",
    "verify_hash": ["sha256", "sha256"],
    "disallowed_header_directives": [],
    "enable_wandb": False,
}


@dataclass(frozen=True)
class Web:
    """Which urls there are: row `n` is at host `n` modulo their number, and the host's kind is its path."""

    port: int
    hosts: tuple[str, ...]
    kinds: tuple[str, ...]  # of each host
    sha256: tuple[str, ...]  # of each picture

    def rows(self, first: int, after: int) -> Iterator[dict[str, str]]:
        for number in range(first, after):
            host = number % len(self.hosts)
            yield {
                "uid": md5(str(number).encode(), usedforsecurity=False).hexdigest(),
                "url": f"http://{self.hosts[host]}:{self.port}/{self.kinds[host]}/{number}",
                "sha256": self.sha256[number % len(self.sha256)],
            }


@dataclass(frozen=True)
class Run:
    """One run of ours: the processes' starts are not in its time."""

    seconds: float
    statuses: Counter[str]
    peak_bytes: int  # of the larger process with its decoders, see `memory`; 0 where nobody watched


def run_ours(
    web: Web,
    *,
    rows: int,
    limits: FetchLimits,
    decode: DecodeLimits,
    rules: PictureRules,
    processes: int = PROCESSES,
    watch_memory: bool = False,
) -> Run:
    """Fetch so many rows in fresh processes, each with a contiguous share, as a Spark task has one.

    To watch a worker's memory takes up to a fifth of its time: not where time is measured.
    """
    fetch = partial(_fetch_share, web, limits=limits, decode=decode, rules=rules, watch_memory=watch_memory)
    seconds, answers = timed_shares(fetch, rows=rows, processes=processes)
    statuses = sum((statuses for statuses, _ in answers), Counter[str]())
    if statuses.total() != rows:
        raise SystemExit(f"could not measure: want {rows} rows answered, found {statuses}")
    return Run(seconds, statuses, max(peak for _, peak in answers))


def _fetch_share(
    web: Web,
    first: int,
    after: int,
    *,
    limits: FetchLimits,
    decode: DecodeLimits,
    rules: PictureRules,
    watch_memory: bool,
) -> tuple[Counter[str], int]:
    statuses: Counter[str] = Counter()
    with watched() if watch_memory else nullcontext() as peaks:
        for batch in fetch_rows(_batches(web, first, after), settings=limits, decode=decode, rules=rules):
            statuses.update(batch["status"].to_pylist())
    return statuses, peaks.total(decoders=rules.decode_processes) if peaks else 0


def timed_shares(
    work: Callable[[int, int], A], *, rows: int, processes: int = PROCESSES
) -> tuple[float, list[A]]:
    """Give each of so many fresh processes a contiguous share of the rows, from one number up to another.

    Returns the seconds that all took together, the processes' starts left out, and what each returned.
    """
    context = multiprocessing.get_context("spawn")
    edges = [rows * place // processes for place in range(processes + 1)]
    pipes = [context.Pipe() for _ in range(processes)]
    workers = [
        context.Process(target=_do_share, args=(work, *edges[place : place + 2], theirs), daemon=True)
        for place, (_, theirs) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for ours, theirs in pipes:
        theirs.close()  # so that a process that dies is an end of file here, and no wait for ever
        ours.recv()
    started = time.perf_counter()
    for ours, _ in pipes:
        ours.send(None)
    answers = [ours.recv() for ours, _ in pipes]
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return seconds, answers


def _do_share(work: Callable[[int, int], A], first: int, after: int, turn: Connection) -> None:
    pa.array([""])  # loads pandas, once for all of a worker's tasks: a start, as the rest of them
    turn.send(None)
    turn.recv()
    turn.send(work(first, after))


def _batches(web: Web, first: int, after: int) -> Iterator[pa.RecordBatch]:
    for start in range(first, after, _BATCH_ROWS):
        yield pa.RecordBatch.from_pylist(list(web.rows(start, min(start + _BATCH_ROWS, after))))


@dataclass(frozen=True)
class Peer:
    """img2dataset, under a Python of its own."""

    python: Path

    def version(self) -> str:
        return self._run("--version").strip()

    def run(self, web: Web, *, rows: int, options: dict[str, Any]) -> float:
        """Seconds that it takes for so many rows, the start of its processes left out."""
        with tempfile.TemporaryDirectory(prefix="fetch-benchmark-") as scratch:
            urls = f"{scratch}/urls.parquet"
            pq.write_table(pa.Table.from_pylist(list(web.rows(0, rows))), urls)
            shards = {"url_list": urls, "output_folder": f"{scratch}/out"}
            shards |= {"number_sample_per_shard": -(-rows // PROCESSES)}
            said = self._run(json.dumps(_PEER_OPTIONS | options | shards))
        found = json.loads(said.splitlines()[-1])
        if (found["successes"], found["shards"]) != (rows, PROCESSES):
            wanted = f"{rows} successes in {PROCESSES} shards of img2dataset"
            raise SystemExit(f"could not measure: want {wanted}, found {found}")
        seconds: float = found["seconds"]
        return seconds

    def _run(self, argument: str) -> str:
        done = subprocess.run(
            [self.python, _SCRIPT, argument],
            capture_output=True,
            text=True,
            check=False,
            cwd=tempfile.gettempdir(),
        )
        if done.returncode:
            sys.stderr.write(done.stderr)
            raise SystemExit(
                f"could not measure: want a run of img2dataset, found exit code {done.returncode}: "
                "its words are above"
            )
        return done.stdout


def fastest(seconds: dict[int, float]) -> int:
    """The setting with the shortest time."""
    return min(seconds, key=lambda setting: seconds[setting])


def said(seconds: dict[int, float]) -> str:
    """A sweep on one line."""
    return ", ".join(f"{setting}: {time_s:.2f} s" for setting, time_s in seconds.items())


def healthy(hosts: Sequence[str], *, port: int, sha256: tuple[str, ...]) -> Web:
    return Web(port, tuple(hosts), ("picture",) * len(hosts), sha256)
