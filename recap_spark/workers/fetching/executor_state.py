"""What the processes of one executor share about hosts: places in use, delays, failures, pauses

Spark runs each task's Python in a process of its own, so a limit within a process is multiplied by the tasks
that run at once. So the processes share four files in the executor's local folder, which Spark makes and
removes:

- `hosts.lock`, which stays empty: a place at a host is a lock on one byte beyond its end, at the hash of the
  host's name. The kernel drops a process's locks when it dies, by `kill -9` too, so no place is ever lost,
  and nothing has to be cleaned up. A place costs some 4 µs, and 17 µs where 900 others are held.
- `delays`, a table in shared memory: when the next request to a host may start, on the clock of the machine.
  Hosts whose names share one of its rows keep their delay together, and so wait longer than they asked for.
- `failures`, another table: how many requests to a host have failed in a row, and when the last did. A row
  names its host; where hosts share a row, it is that of the latest to fail, and the others count as sound.
- `pauses`, a third table: until when a host has asked not to be requested.

POSIX locks belong to a process, and closing any descriptor of the file drops them all. So a process opens
each folder once, and keeps count itself of what its own threads hold.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path

from recap_spark.errors import PlatformError

_PLACES_A_HOST = 1 << 14  # the stride between two hosts in the file of locks
_ROWS = 1 << 16
_ROW = struct.Struct("d")
_DELAYS_AT = 1 << 62  # beyond the places: 48 bits of hash, 14 of place
_FAILURES = struct.Struct("=QQd")  # hash of the host's name, failures in a row, time.monotonic of the last
_FAILURES_AT = _DELAYS_AT + _ROWS
_PAUSES = struct.Struct("=Qd")  # hash of the host's name, time.monotonic of the pause's end
_PAUSES_AT = _FAILURES_AT + _ROWS
_OPENING = threading.Lock()


class ExecutorState:
    """One executor's files, as one of its processes sees them. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Never closed: the locks live as long as the process.
        self._locks = os.open(folder / "hosts.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._delays = _table(folder / "delays", row=_ROW)
        self._failures = _table(folder / "failures", row=_FAILURES)
        self._pauses = _table(folder / "pauses", row=_PAUSES)
        self._held: set[int] = set()
        self._threads = threading.Lock()

    def take(self, name: str, *, places: int) -> int | None:
        """Take one of `places` under a name, unless all are held by this executor: then None. Does not
        wait.
        """
        first = _hash(name) * _PLACES_A_HOST
        with self._threads:
            for place in range(first, first + places):
                if place not in self._held and self._locked(place):
                    self._held.add(place)
                    return place
        return None

    def leave(self, place: int) -> None:
        with self._threads:
            self._held.remove(place)
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, place)

    def next_start(self, name: str, *, delay_s: float) -> float:
        """Reserve the moment, by `time.monotonic`, at which a request to a host may start."""
        row = _hash(name) % _ROWS
        with self._alone(_DELAYS_AT + row):
            (free_from,) = _ROW.unpack_from(self._delays, row * _ROW.size)
            start: float = max(time.monotonic(), free_from)
            _ROW.pack_into(self._delays, row * _ROW.size, start + delay_s)
        return start

    def failures(self, name: str) -> tuple[int, float]:
        """Requests to a host that have failed in a row, and when the last did, by `time.monotonic`."""
        whose, count, last = _FAILURES.unpack_from(self._failures, _hash(name) % _ROWS * _FAILURES.size)
        return (count, last) if whose == _hash(name) else (0, 0.0)

    def add_failure(self, name: str) -> int:
        """Count one more failure, and return how many there are."""
        with self._alone(_FAILURES_AT + _hash(name) % _ROWS):
            count = self.failures(name)[0] + 1
            self._write_failures(name, count)
        return count

    def forgive(self, name: str) -> None:
        """Set a host's failures to none, because it has answered."""
        if self.failures(name)[0]:
            with self._alone(_FAILURES_AT + _hash(name) % _ROWS):
                self._write_failures(name, 0)

    def pause_end(self, name: str) -> float:
        """Until when a host has asked to be left alone, by `time.monotonic`; 0 where it has not."""
        whose, end = _PAUSES.unpack_from(self._pauses, _hash(name) % _ROWS * _PAUSES.size)
        return float(end) if whose == _hash(name) else 0.0

    def pause(self, name: str, *, until: float) -> None:
        """Leave a host alone until then, unless a longer pause is known already."""
        row = _hash(name) % _ROWS
        with self._alone(_PAUSES_AT + row):
            end = max(until, self.pause_end(name))
            _PAUSES.pack_into(self._pauses, row * _PAUSES.size, _hash(name), end)

    def _write_failures(self, name: str, count: int) -> None:
        row = _hash(name) % _ROWS
        _FAILURES.pack_into(self._failures, row * _FAILURES.size, _hash(name), count, time.monotonic())

    @contextmanager
    def _alone(self, byte: int) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, byte)  # held for microseconds only
            try:
                yield
            finally:
                fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, byte)

    def _locked(self, place: int) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):  # POSIX leaves the choice of these two to the system
            return False
        return True


def _table(path: Path, *, row: struct.Struct) -> mmap.mmap:
    """A file of rows in shared memory, all zeros when it is new."""
    table = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(table, _ROWS * row.size)
        return mmap.mmap(table, _ROWS * row.size)
    finally:
        os.close(table)


def executor_state(environment: Mapping[str, str]) -> ExecutorState:
    """The shared state of the executor that this process works for.

    Raises PlatformError where Spark has not said which folder is the executor's.
    """
    folder = environment.get("SPARK_LOCAL_DIRS", "").partition(",")[0]
    if not folder:
        raise PlatformError(
            "fetch.limits.hosts_shared_by: executor: want SPARK_LOCAL_DIRS, which Spark sets for its Python "
            "workers, found none: outside Spark, or where a platform hides it, set hosts_shared_by: process"
        )
    return state_in(Path(folder) / "recap_spark")


def state_in(folder: Path) -> ExecutorState:
    """The shared state of a folder on a local disk, made if need be; the same object for a whole process."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _OPENING:  # `cache` lets threads that arrive together open one each, blind to the others
        return _opened(folder.resolve(), os.getpid())


@cache
def _opened(folder: Path, process: int) -> ExecutorState:
    # A forked child must not take its parent's locks for its own.
    return ExecutorState(folder)


@lru_cache(maxsize=1 << 14)
def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())
