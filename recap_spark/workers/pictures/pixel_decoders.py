"""Stored pictures → their pixels, by processes that a picture may kill

A picture was decoded once when it was fetched, but a JPEG only at an eighth of its size and without colours.
Decoding all of it may still crash the codec, which must not crash the task at every attempt.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import asdict

from PIL import Image

from recap_spark.errors import PlatformError
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.decoder import Header
from recap_spark.workers.pictures.decoder_process import DeadError, DecoderProcess, KilledError
from recap_spark.workers.pictures.pictures import PictureError

_log = logging.getLogger(__name__)


class PixelDecoders:
    """One decoder for each thread that decodes at the same time. They live as long as this object or its
    process.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._order = {"limits": asdict(limits), "rules": None}
        self._idle: deque[DecoderProcess] = deque()
        self._end = weakref.finalize(self, _end, self._idle)

    def decode(self, body: bytes) -> Image.Image:
        """RGB, as `pictures.decode_rgb` decodes it.

        Raises PictureError, also where the picture killed its decoder, and PlatformError where no decoder can
        be started, or something other than the picture killed the second one as well.
        """
        try:
            header, pixels = self._asked_twice(body)
        except DeadError as death:
            _log.warning("a decoder of stored pictures %s", death)
            raise PictureError(FetchStatus.DECODER_CRASH, str(death)) from death
        if "status" in header:
            raise PictureError(FetchStatus(header["status"]), header["detail"])
        width, height = header["size"]
        return Image.frombytes("RGB", (width, height), pixels)

    def close(self) -> None:
        """End the decoders that are idle."""
        self._end()

    def _asked(self, body: bytes) -> tuple[Header, bytes]:
        decoder = self._taken()
        try:
            decoder.give({}, body)
            while (answer := decoder.take()) is None:  # it only says that it is ready
                pass
        except BaseException:  # dead, or whoever asks next would get this one's answer
            decoder.kill()
            raise
        self._idle.append(decoder)
        return answer

    def _asked_twice(self, body: bytes) -> tuple[Header, bytes]:
        """Ask again where something other than the picture killed the first decoder."""
        try:
            return self._asked(body)
        except KilledError as death:
            _log.warning("a decoder of stored pictures %s", death)
        try:
            return self._asked(body)
        except KilledError as death:
            wanted = "want memory for decode_threads decoders of decode.memory_bytes each in every task"
            raise PlatformError(f"{wanted}, found that a decoder {death}, and the next as well") from death

    def _taken(self) -> DecoderProcess:
        with suppress(IndexError):
            while True:
                decoder = self._idle.pop()
                if decoder.is_running:
                    return decoder
                decoder.close()  # whatever ended it while nobody asked was no picture's doing
        return DecoderProcess(self._order, at_once=1)


def _end(idle: deque[DecoderProcess]) -> None:
    while idle:
        idle.pop().close()
