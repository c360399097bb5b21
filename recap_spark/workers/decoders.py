"""Bodies → prepared pictures, by processes that may die of them"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from recap_spark.errors import PlatformError
from recap_spark.statuses import FetchStatus
from recap_spark.workers.decoder import Header, read_frame, write_frame
from recap_spark.workers.faces import Box
from recap_spark.workers.picture_rules import PictureRules
from recap_spark.workers.pictures import Picture, PictureError
from recap_spark.workers.preparing import Prepared

T = TypeVar("T")


@dataclass(frozen=True)
class Parcel(Generic[T]):
    """A body to prepare, and whose it is."""

    owner: T
    body: bytes | None  # None: nothing to do but to be handed on
    faces: Sequence[Box]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    owner: T
    answer: Prepared | PictureError | None  # None if there was no body


def prepare_all(
    parcels: Iterable[Parcel[T]], *, rules: PictureRules, largest_pixels: int
) -> Iterator[Outcome[T]]:
    """Yield one outcome per parcel, in the order they finish.

    Parcels are drawn only as fast as outcomes are taken, two for each decoder. A picture that kills its
    decoder, or would have passed its memory or time, is a `decoder_crash`, and a new decoder takes the next
    one. Raises PlatformError if none can be started.
    """
    finished: SimpleQueue[Future[Outcome[T]]] = SimpleQueue()
    under_way = 0
    with _decoders(rules, largest_pixels=largest_pixels) as decoders:
        for parcel in parcels:
            if parcel.body is None:
                yield Outcome(parcel.owner, None)
                continue
            decoders.submit(parcel).add_done_callback(finished.put)
            under_way += 1
            while under_way >= 2 * rules.decode_processes or not finished.empty():
                yield finished.get().result()
                under_way -= 1
        for _ in range(under_way):
            yield finished.get().result()


class _Decoders:
    """As many processes as threads; a thread waits for one picture of one process."""

    def __init__(self, order: Header, *, processes: int) -> None:
        self.order = order
        self.idle: SimpleQueue[_Decoder | None] = SimpleQueue()  # None: to be started
        for _ in range(processes):
            self.idle.put(None)
        self.threads = ThreadPoolExecutor(max_workers=processes, thread_name_prefix="decoder")

    def submit(self, parcel: Parcel[T]) -> Future[Outcome[T]]:
        return self.threads.submit(self._outcome, parcel)

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)
        while not self.idle.empty():
            if decoder := self.idle.get():
                decoder.close()

    def _outcome(self, parcel: Parcel[T]) -> Outcome[T]:
        assert parcel.body is not None
        decoder = self.idle.get()
        try:
            decoder = decoder or _Decoder(self.order)
            answer = decoder.answer(parcel.body, parcel.faces)
        except _DeadError as death:
            decoder = None
            answer = PictureError(FetchStatus.DECODER_CRASH, str(death))
        finally:
            self.idle.put(decoder)
        return Outcome(parcel.owner, answer)


@contextmanager
def _decoders(rules: PictureRules, *, largest_pixels: int) -> Iterator[_Decoders]:
    order = {"rules": asdict(rules), "largest_pixels": largest_pixels}
    decoders = _Decoders(order, processes=rules.decode_processes)
    try:
        yield decoders
    finally:
        decoders.close()


class _DeadError(Exception):
    """A decoder ended before it answered; the message says how."""


class _Decoder:
    """One process, and the pipes to it."""

    def __init__(self, order: Header) -> None:
        # A worker's modules may come from archives that were added to its path after it had started.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recap_spark.workers.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            self._ask(order, b"")
        except _DeadError as death:
            raise PlatformError(f"want a process that decodes pictures, found that it {death}") from None

    def answer(self, body: bytes, faces: Sequence[Box]) -> Prepared | PictureError:
        header, encoded = self._ask({"faces": faces}, body)
        if "status" in header:
            return PictureError(FetchStatus(header["status"]), header["detail"])
        return Prepared(picture=Picture(**header["picture"]), encoded=None if header["kept"] else encoded)

    def close(self) -> int:
        """End the process, and return what it ended with."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it is gone already, and left something unread
            self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()

    def _ask(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            write_frame(self.process.stdin, header, body)
            frame = read_frame(self.process.stdout)
        except BrokenPipeError:
            frame = None
        if frame is None:
            raise _DeadError(_death(self.close()))
        return frame


def _death(code: int) -> str:
    if code == -signal.SIGPROF:
        return "ran out of CPU time"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
