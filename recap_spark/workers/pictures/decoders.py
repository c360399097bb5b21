"""Bodies → prepared pictures, by processes that a picture may kill"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.decoder import Header
from recap_spark.workers.pictures.decoder_process import DeadError, DecoderProcess, KilledError
from recap_spark.workers.pictures.faces import Box
from recap_spark.workers.pictures.pictures import Picture, PictureError
from recap_spark.workers.pictures.preparing import Prepared

T = TypeVar("T")

_AT_ONCE = 2  # pictures a decoder holds: one at work, one that waits
# So long without any answer, and as often the CPU seconds of a picture: nobody works, somebody hangs.
_LONGEST_START_S, _STALLED = 60.0, 10


@dataclass(frozen=True)
class Parcel(Generic[T]):
    """A body to prepare, and whose it is."""

    owner: T
    body: bytes | None  # None: nothing to do but to be handed on
    faces: Sequence[Box | None]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    owner: T
    answer: Prepared | PictureError | None  # None if there was no body


def prepare_all(
    parcels: Iterable[Parcel[T]], *, rules: PictureRules, decode: DecodeLimits
) -> Iterator[Outcome[T]]:
    """Yield one outcome per parcel, in the order they finish.

    Parcels are drawn only as fast as outcomes are taken, two for each decoder. A picture that kills its
    decoder, or would have exceeded its memory or time, is a `decoder_crash`, and a new decoder takes the next
    one. Where something other than the picture killed the decoder, the picture is given to another one, once.
    Raises PlatformError where no decoder can be started.
    """
    with _decoders(rules, decode) as decoders:
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


@dataclass(frozen=True)
class _Given:
    parcel: Parcel[Any]
    is_again: bool  # the decoder that had it first was killed


@dataclass
class _Decoder:
    """A process, and what it has to do."""

    process: DecoderProcess
    parcels: deque[_Given] = field(default_factory=deque)  # in the order of its answers


class _Decoders:
    """Processes, each with one picture at work and one that waits for it. For one thread.

    A thread for each would cost more than handing the pictures over; with one waiting, no process is ever
    idle.
    """

    def __init__(self, order: Header, *, processes: int, patience_s: float) -> None:
        self.under_way = 0
        self._order = order
        self._processes = processes
        self._patience_s = patience_s
        self._alive: list[_Decoder] = []
        self._answers = selectors.DefaultSelector()

    @property
    def are_full(self) -> bool:
        return self.under_way >= _AT_ONCE * self._processes

    def give(self, parcel: Parcel[Any], *, is_again: bool = False) -> None:
        """Have a parcel prepared by the decoder with the least to do. Must not be called when all are
        full.
        """
        assert parcel.body is not None
        for idle in [one for one in self._alive if not one.parcels and not one.process.is_running]:
            self._forget(idle)  # whatever ended it while nobody asked was no picture's doing
        decoder = min(self._alive, key=lambda one: len(one.parcels), default=None)
        if decoder is None or (decoder.parcels and len(self._alive) < self._processes):
            decoder = self._start()
        decoder.process.give({"faces": parcel.faces}, parcel.body)
        decoder.parcels.append(_Given(parcel, is_again))
        self.under_way += 1

    def finished(self, *, wait: bool = False) -> Iterator[Outcome[Any]]:
        """The outcomes that are ready; with `wait`, not before there is something from a decoder."""
        answers = self._answers.select(self._patience_s if wait else 0)
        if wait and not answers:
            for decoder in self._alive:
                decoder.process.stop()  # its death is an answer
        for key, _ in answers:
            if key.data not in self._alive:  # found dead on the way
                continue
            try:
                outcome = _taken(key.data)
            except DeadError as death:
                outcome = self._buried(key.data, death)
            if outcome is not None:
                self.under_way -= 1
                yield outcome

    def close(self) -> None:
        for decoder in self._alive:
            if decoder.parcels:  # nobody asks for them any more
                decoder.process.kill()
            else:
                decoder.process.close()
        self._answers.close()

    def _start(self) -> _Decoder:
        decoder = _Decoder(DecoderProcess(self._order, at_once=_AT_ONCE))
        self._alive.append(decoder)
        self._answers.register(decoder.process.answers, selectors.EVENT_READ, decoder)
        return decoder

    def _buried(self, decoder: _Decoder, death: DeadError) -> Outcome[Any] | None:
        """What its death did to the picture at work, if there was one; another decoder takes the others."""
        self._forget(decoder)
        left, crashed = decoder.parcels, None
        if left and isinstance(death, KilledError) and not left[0].is_again:
            left[0] = replace(left[0], is_again=True)
        elif left:
            crashed = left.popleft()
        self.under_way -= len(left)
        for given in left:
            self.give(given.parcel, is_again=given.is_again)
        if crashed is None:
            return None
        return Outcome(crashed.parcel.owner, PictureError(FetchStatus.DECODER_CRASH, str(death)))

    def _forget(self, decoder: _Decoder) -> None:
        self._answers.unregister(decoder.process.answers)
        self._alive.remove(decoder)
        decoder.process.close()


@contextmanager
def _decoders(rules: PictureRules, limits: DecodeLimits) -> Iterator[_Decoders]:
    order = {"limits": asdict(limits), "rules": asdict(rules)}
    patience_s = _LONGEST_START_S + _STALLED * limits.cpu_s
    decoders = _Decoders(order, processes=rules.decode_processes, patience_s=patience_s)
    try:
        yield decoders
    finally:
        decoders.close()


def _taken(decoder: _Decoder) -> Outcome[Any] | None:
    answer = decoder.process.take()
    return None if answer is None else Outcome(decoder.parcels.popleft().parcel.owner, _answer(*answer))


def _answer(header: Header, encoded: bytes) -> Prepared | PictureError:
    if "status" in header:
        return PictureError(FetchStatus(header["status"]), header["detail"])
    kept = None if header["kept"] else encoded
    return Prepared(picture=Picture(**header["picture"]), encoded=kept, exif=header["exif"])
