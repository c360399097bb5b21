"""What origins' robots.txt said, for as long as it may be relied on: parsed in memory, as text on disk

The disk belongs to the executor: one process fetches a robots.txt, the others read it, and so do later tasks.
"""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from protego import Protego

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.failures import FetchError

_BUSY_S = 30.0
_PAGE_BYTES = 4096
_INSERT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Answer:
    """The rules, or the reason why there are none."""

    text: str
    status: FetchStatus | None  # None: the text holds, and an empty one allows everything
    detail: str | None
    expires: float  # by time.time(), which outlives a process

    @cached_property
    def rules(self) -> Protego:
        return Protego.parse(self.text)

    def refuse(self, path: str, *, agent: str) -> None:
        """Raise unless an agent may ask for a path, with its query."""
        if self.status is not None:
            raise FetchError(self.status, f"robots.txt: {self.detail}", lasting=True)
        # A host of our own making: rules look at paths only, and hosts can be spelled to break urlsplit.
        if not self.rules.can_fetch(f"http://host{path}", agent):
            raise FetchError(FetchStatus.ROBOTS, "robots.txt disallows the url")

    def delay_s(self, *, agent: str) -> float:
        """Crawl-delay, 0 if there is none."""
        return self.rules.crawl_delay(agent) or 0.0


class RobotsCache:
    """Answers by origin. Beyond `entries` or `text_bytes` in memory the longest unused are forgotten."""

    def __init__(self, *, entries: int, text_bytes: int, shelf: Shelf | None) -> None:
        self._entries = entries
        self._text_bytes = text_bytes
        self._shelf = shelf
        self._held: OrderedDict[str, Answer] = OrderedDict()
        self._size = 0

    def get(self, origin: str) -> Answer | None:
        answer = self._held.get(origin)
        if answer is not None and answer.expires > time.time():
            self._held.move_to_end(origin)
            return answer
        answer = self._shelf.get(origin) if self._shelf else None
        if answer is not None:
            self._hold(origin, answer)
        return answer

    def put(self, origin: str, answer: Answer) -> None:
        self._hold(origin, answer)
        if self._shelf:
            self._shelf.put(origin, answer)

    def close(self) -> None:
        if self._shelf:
            self._shelf.close()

    def _hold(self, origin: str, answer: Answer) -> None:
        earlier = self._held.pop(origin, None)
        self._size += len(answer.text) - (len(earlier.text) if earlier else 0)
        self._held[origin] = answer
        while len(self._held) > 1 and (len(self._held) > self._entries or self._size > self._text_bytes):
            _, forgotten = self._held.popitem(last=False)
            self._size -= len(forgotten.text)


class Shelf:
    """The executor's answers in SQLite, which survives a writer that is killed. Full, it starts afresh."""

    def __init__(self, path: Path, *, largest_bytes: int) -> None:
        self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        self._database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")  # a machine that dies takes its executor with it
        self._database.execute(f"PRAGMA max_page_count = {max(largest_bytes // _PAGE_BYTES, 256)}")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers"
            " (origin TEXT PRIMARY KEY, text TEXT, status TEXT, detail TEXT, expires REAL) WITHOUT ROWID"
        )

    def get(self, origin: str) -> Answer | None:
        found = self._database.execute(
            "SELECT text, status, detail, expires FROM answers WHERE origin = ? AND expires > ?",
            (origin, time.time()),
        ).fetchone()
        if found is None:
            return None
        text, status, detail, expires = found
        return Answer(text, None if status is None else FetchStatus(status), detail, expires)

    def put(self, origin: str, answer: Answer) -> None:
        row = (origin, answer.text, answer.status, answer.detail, answer.expires)
        try:
            self._database.execute(_INSERT, row)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._start_afresh_with(row)

    def close(self) -> None:
        self._database.close()

    def _start_afresh_with(self, row: tuple[object, ...]) -> None:
        with self._database:  # commits, or rolls back if the disk itself is full
            self._database.execute("BEGIN IMMEDIATE")  # else the neighbours fill it before this row is in
            self._database.execute("DELETE FROM answers")
            self._database.execute(_INSERT, row)
