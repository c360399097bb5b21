"""The peak memory of a worker and of the decoders that it started, on Linux"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_S = 0.05
_SELF = Path("/proc/self")


@dataclass
class Peaks:
    """Bytes. Each process's own peak comes from the kernel, so only what a decoder does in its last moments
    can be missed.
    """

    decoders: dict[int, int] = field(default_factory=dict)  # resident, by process
    shared: int = 0  # files in memory through which pictures travel: in no process's resident size

    def total(self, *, decoders: int) -> int:
        """At least what was held at once: the worker's peak, its start included, those of as many decoders as
        run at once, and the shared memory's.
        """
        largest = sorted(self.decoders.values(), reverse=True)[:decoders]
        if len(largest) < decoders:
            raise SystemExit(f"could not measure: want {decoders} decoders seen, found {len(largest)}")
        return _resident_peak(_SELF) + sum(largest) + self.shared

    def look(self) -> None:
        for process in _children():
            with suppress(OSError, LookupError):  # it has ended
                self.decoders[process] = _resident_peak(Path(f"/proc/{process}"))
        self.shared = max(self.shared, sum(_files_in_memory()))


@contextmanager
def watched() -> Iterator[Peaks]:
    """Look at this process's memory, and at its children's, for as long as the block runs."""
    peaks, done = Peaks(), threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            peaks.look()

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _resident_peak(process: Path) -> int:
    # Not getrusage, whose maximum a spawned process takes over from the one that spawned it.
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"want VmHWM in {process}/status, found none")  # a zombie's has none


def _children() -> Iterator[int]:
    for thread in (_SELF / "task").iterdir():
        with suppress(OSError):
            yield from map(int, (thread / "children").read_text().split())


def _files_in_memory() -> Iterator[int]:
    for file in (_SELF / "fd").iterdir():
        with suppress(OSError):
            if os.readlink(file).startswith("/memfd:"):
                yield file.stat().st_blocks * 512
