"""What a long stage shows while it works: a bar in a terminal, one log line a unit elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

log = logging.getLogger(__name__)


class Advance(Protocol):
    """Says that so many more rows are done."""

    def __call__(self, rows: int, *, note: str) -> None: ...


@dataclass(frozen=True)
class Progress:
    """Reports to one console."""

    console: Console

    @contextmanager
    def stage(self, name: str, *, rows: int, unit: str = "rows") -> Iterator[Advance]:
        """Report on one stage of `rows` rows, or of so many of another unit; the advance it yields may be
        called from any thread.
        """
        terminal = self.console.is_terminal
        shown = _bar(self.console, name, rows, unit) if terminal else _lines(name, rows, unit)
        with shown as advance:
            yield advance


@contextmanager
def _bar(console: Console, name: str, rows: int, unit: str) -> Iterator[Advance]:
    rate = TextColumn("{task.fields[rate]:>8.1f} " + unit + "/s")
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeElapsedColumn(),
    )
    with Bar(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=rows, rate=0.0)
        started = time.monotonic()

        def advance(rows: int, *, note: str) -> None:
            done = bar.tasks[0].completed + rows
            bar.update(task, advance=rows, rate=done / max(time.monotonic() - started, 1e-9))

        yield advance


@contextmanager
def _lines(name: str, total: int, unit: str) -> Iterator[Advance]:
    started, done, lock = time.monotonic(), 0, threading.Lock()

    def advance(rows: int, *, note: str) -> None:
        nonlocal done
        with lock:
            done += rows
            rate = done / max(time.monotonic() - started, 1e-9)
            left_s = (total - done) / max(rate, 1e-9)
            shown = f"{done} of {total} {unit}, {rate:.1f} {unit}/s, {left_s:.0f} s left"
            log.info("%s: %s (%s)", name, shown, note)

    yield advance
