"""One decoder as its worker sees it: a process, the pipes to it, and the places for its frames"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from recap_spark.errors import PlatformError
from recap_spark.workers.pictures.decoder import Header, read_frame, write_frame

# glibc gives a picture's room back to the system and asks for it again, page by page, with every picture:
# almost half of what a photograph of 512 x 512 pixels costs. 32 MiB is the most it takes for the second.
_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(32 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}

# What parses hostile bytes has no use for the keys and tokens of its worker.
_PASSED_ON = ("LANG", "LC_", "LD_", "MALLOC_", "PATH", "PYTHON", "TMPDIR")

_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM)  # no codec raises these


class DeadError(Exception):
    """A decoder ended before it answered; the message says how."""


class KilledError(DeadError):
    """Something other than the picture ended the decoder: a machine short of memory, say."""


class DecoderProcess:
    """Answers bodies in the order in which they are given, `at_once` of them at most."""

    def __init__(self, order: Header, *, at_once: int) -> None:
        self._is_ready = False
        self._places = [os.memfd_create("picture") for _ in range(at_once + 1)]  # one for the order
        self._free = self._places.copy()
        # A worker's modules may come from archives that were added to its path after it had started.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "recap_spark.workers.pictures.decoder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=self._places,
                env=_environment() | _HEAP | {"PYTHONPATH": path},
            )
        except OSError as cause:
            self._close_places()
            raise PlatformError(f"want a process that decodes pictures, found: {cause}") from cause
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self.answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        write_frame(self._asked, self._free.pop(), order, b"")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def give(self, header: Header, body: bytes) -> None:
        with suppress(BrokenPipeError):  # who takes the answer hears of its death
            write_frame(self._asked, self._free.pop(), header, body)

    def take(self) -> tuple[Header, bytes] | None:
        """The next answer; None where it only says that the decoder is ready.

        Raises DeadError where the decoder ended without it, and PlatformError where it never became ready.
        """
        frame = read_frame(self.answers)
        if frame is None:
            death = _death(self.close())
            if not self._is_ready:
                found = f"found that it {death}; standard error of this worker says why"
                raise PlatformError(f"want a process that decodes pictures, {found}")
            raise death
        place, header, answer = frame
        self._free.append(place)
        if not self._is_ready:
            self._is_ready = True
            return None
        return header, answer

    def stop(self) -> None:
        """End the process in the middle of its work; `take` then raises DeadError."""
        self._process.kill()

    def kill(self) -> None:
        """As `stop`, where no answer is awaited any more."""
        self.stop()
        self.close()

    def close(self) -> int:
        """Let the process end, and return its exit code. May be called again."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._close_places()
        return self._process.wait()

    def _close_places(self) -> None:
        while self._places:
            os.close(self._places.pop())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}


def _death(code: int) -> DeadError:
    if code == -signal.SIGPROF:
        return DeadError("ran out of CPU time")
    if code < 0:
        kind = KilledError if code in _BY_OTHERS else DeadError
        return kind(f"was killed by {signal.Signals(-code).name}")
    return DeadError(f"ended with exit code {code}")
