"""What a long stage shows while it works: a bar in a terminal, a log line every half minute elsewhere"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

log = logging.getLogger(__name__)

BAR_EVERY_S = 1.0
LINE_EVERY_S = 30.0


class Advance(Protocol):
    """Says that so many more rows are done, and which step ended with them."""

    def __call__(self, rows: int, *, note: str) -> None: ...


class Show(Protocol):
    """Shows how many rows are done or under way, and the last step that ended."""

    def __call__(self, rows: int, note: str) -> None: ...


@dataclass(frozen=True)
class Progress:
    """Reports to one console."""

    console: Console

    @contextmanager
    def stage(
        self,
        name: str,
        *,
        rows: int,
        unit: str = "rows",
        underway: Callable[[], int] | None = None,
        every_s: float | None = None,
    ) -> Iterator[Advance]:
        """Report on one stage of `rows` rows, or of so many of another unit; the advance it yields may be
        called from any thread.

        `underway` says how many rows of steps that have not ended are done already: a step may take an hour.
        It is asked every `every_s` seconds, by default each second for a bar and twice a minute for the log.
        """
        terminal = self.console.is_terminal
        shown = _bar(self.console, name, rows, unit) if terminal else _lines(name, rows, unit)
        every_s = every_s or (BAR_EVERY_S if terminal else LINE_EVERY_S)
        with shown as show:
            counted = _Counted(rows)
            with _repeated(lambda: show(counted.rows(underway), counted.note), every_s=every_s):
                yield counted.advance
            show(counted.rows(None), counted.note)


@dataclass
class _Counted:
    """The rows that are done for good."""

    total: int
    done: int = 0
    note: str = "begins"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, rows: int, *, note: str) -> None:
        with self.lock:
            self.done += rows
            self.note = note

    def rows(self, underway: Callable[[], int] | None) -> int:
        return min(self.total, self.done + (underway() if underway else 0))


@contextmanager
def _repeated(action: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Meanwhile the action is taken again and again, by a thread of its own."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every_s):
            action()

    thread = threading.Thread(target=repeat, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _bar(console: Console, name: str, total: int, unit: str) -> Iterator[Show]:
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>8.1f} " + unit + "/s"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=total, rate=0.0)
        rate_of = _rate()

        def show(rows: int, note: str) -> None:
            bar.update(task, completed=rows, rate=rate_of(rows))

        yield show


@contextmanager
def _lines(name: str, total: int, unit: str) -> Iterator[Show]:
    rate_of = _rate()

    def show(rows: int, note: str) -> None:
        rate = rate_of(rows)
        left = f"{(total - rows) / rate:.0f} s left" if rate else "time left unknown"
        log.info("%s: %d of %d %s, %.1f %s/s, %s (%s)", name, rows, total, unit, rate, unit, left, note)

    yield show


def _rate() -> Callable[[int], float]:
    """Rows a second since now."""
    started = time.monotonic()
    return lambda rows: rows / max(time.monotonic() - started, 1e-9)
