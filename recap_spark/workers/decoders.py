"""Bodies → prepared pictures, by processes that may die of them"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from recap_spark.errors import PlatformError
from recap_spark.statuses import FetchStatus
from recap_spark.workers.decoder import Header, read_frame, write_frame
from recap_spark.workers.faces import Box
from recap_spark.workers.picture_rules import PictureRules
from recap_spark.workers.pictures import Picture, PictureError
from recap_spark.workers.preparing import Prepared

T = TypeVar("T")

_AT_ONCE = 2  # pictures a decoder holds: one at work, one that waits


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
    with _decoders(rules, largest_pixels=largest_pixels) as decoders:
        for parcel in parcels:
            if parcel.body is None:
                yield Outcome(parcel.owner, None)
                continue
            decoders.give(parcel)
            yield from decoders.finished()
            while decoders.are_full:
                yield from decoders.finished(wait=True)
        while decoders.under_way:
            yield from decoders.finished(wait=True)


class _Decoders:
    """Processes, each with one picture at work and one that waits for it. For one thread.

    A thread for each would cost more than the pictures' travel: with one to wait, no process is ever idle.
    """

    def __init__(self, order: Header, *, processes: int) -> None:
        self.under_way = 0
        self._order = order
        self._processes = processes
        self._alive: list[_Decoder] = []
        self._answers = selectors.DefaultSelector()

    @property
    def are_full(self) -> bool:
        return self.under_way >= _AT_ONCE * self._processes

    def give(self, parcel: Parcel[Any]) -> None:
        """Have a parcel prepared by whichever decoder has the least to do. Not where all are full."""
        decoder = min(self._alive, key=lambda one: len(one.parcels), default=None)
        if decoder is None or (decoder.parcels and len(self._alive) < self._processes):
            decoder = self._start()
        decoder.give(parcel)
        self.under_way += 1

    def finished(self, *, wait: bool = False) -> Iterator[Outcome[Any]]:
        """What is finished by now, or where `wait` says so, by the time that anything has come."""
        for key, _ in self._answers.select(None if wait else 0):
            try:
                outcome = key.data.take()
            except _DeadError as death:
                outcome = self._buried(key.data, PictureError(FetchStatus.DECODER_CRASH, str(death)))
            if outcome is not None:
                self.under_way -= 1
                yield outcome

    def close(self) -> None:
        for decoder in self._alive:
            if decoder.parcels:  # nobody asks for them any more
                decoder.process.kill()
            decoder.close()
        self._answers.close()

    def _start(self) -> _Decoder:
        decoder = _Decoder(self._order)
        self._alive.append(decoder)
        self._answers.register(decoder.answers, selectors.EVENT_READ, decoder)
        return decoder

    def _buried(self, decoder: _Decoder, crash: PictureError) -> Outcome[Any] | None:
        """What its death did to the picture at work, if there was one; another decoder takes what waited."""
        self._answers.unregister(decoder.answers)
        self._alive.remove(decoder)
        if not decoder.parcels:
            return None
        at_work = decoder.parcels.popleft()
        self.under_way -= len(decoder.parcels)
        for parcel in decoder.parcels:
            self.give(parcel)
        return Outcome(at_work.owner, crash)


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
    """One process, the pipes to it, and the places for its frames."""

    def __init__(self, order: Header) -> None:
        self.parcels: deque[Parcel[Any]] = deque()  # in the order of its answers
        self._is_ready = False
        self._places = [os.memfd_create("picture") for _ in range(_AT_ONCE + 1)]  # one for the order
        self._free = self._places.copy()
        # A worker's modules may come from archives that were added to its path after it had started.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recap_spark.workers.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=self._places,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._asked, self.answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        write_frame(self._asked, self._free.pop(), order, b"")

    def give(self, parcel: Parcel[Any]) -> None:
        assert parcel.body is not None
        self.parcels.append(parcel)
        write_frame(self._asked, self._free.pop(), {"faces": parcel.faces}, parcel.body)

    def take(self) -> Outcome[Any] | None:
        """The next answer; None where it says no more than that the decoder is ready.

        Raises _DeadError if there will be none, and PlatformError if the decoder never was ready.
        """
        frame = read_frame(self.answers)
        if frame is None:
            death = _death(self.close())
            if not self._is_ready:
                raise PlatformError(f"want a process that decodes pictures, found that it {death}")
            raise _DeadError(death)
        place, header, encoded = frame
        self._free.append(place)
        if not self._is_ready:
            self._is_ready = True
            return None
        return Outcome(self.parcels.popleft().owner, _answer(header, encoded))

    def close(self) -> int:
        """End the process, and return what it ended with."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        while self._places:
            os.close(self._places.pop())
        return self.process.wait()


def _answer(header: Header, encoded: bytes) -> Prepared | PictureError:
    if "status" in header:
        return PictureError(FetchStatus(header["status"]), header["detail"])
    kept = None if header["kept"] else encoded
    return Prepared(picture=Picture(**header["picture"]), encoded=kept, exif=header["exif"])


def _death(code: int) -> str:
    if code == -signal.SIGPROF:
        return "ran out of CPU time"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
