"""A process that prepares one picture after another: bodies in shared memory → answers in shared memory

Run as `python -m recap_spark.workers.pictures.decoder`. A body or an answer is a frame. It lies in a place, a
file in memory whose descriptor the process inherited; standard input and output only say in which place, and
how long the frame is. Such short messages fit any pipe, so neither side has to wait for the other to read.
The first frame holds the limits, and the rules by which pictures are prepared for their table, or null where
only their pixels are wanted. Each further one is a body, with its faces where there are rules. Answers come
in order, each in the place of its body. The process ends when its input ends.

It limits itself: its memory by RLIMIT_DATA, the CPU time of a picture by a timer whose signal kills. So a
codec that crashes, hangs or takes too much memory ends this process and nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from PIL import AvifImagePlugin, Image

from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import PictureError, decode_rgb
from recap_spark.workers.pictures.preparing import prepare

Header = dict[str, Any]

_WORDS = struct.Struct("!III")  # the place, the length of the header as JSON, that of the bytes behind it
_KEPT_BYTES = 1 << 20  # of a place between two frames: memory that is there already is the cheapest to fill


def write_frame(stream: int, place: int, header: Header, body: bytes) -> None:
    """Write a frame into a place and tell the reader of the stream, which may have ended: see
    `read_frame`.
    """
    encoded = json.dumps(header).encode()
    if os.pwritev(place, (encoded, body), 0) < len(encoded) + len(body):
        raise MemoryError(f"want {len(body)} bytes of shared memory, found less")
    with suppress(BrokenPipeError):
        os.write(stream, _WORDS.pack(place, len(encoded), len(body)))


def read_frame(stream: int) -> tuple[int, Header, bytes] | None:
    """The next frame and its place, which may then be used again; None where the stream ends."""
    words = os.read(stream, _WORDS.size)  # never a part of them: writes to a pipe this short are whole
    if not words:
        return None
    place, header_length, body_length = _WORDS.unpack(words)
    header = json.loads(os.pread(place, header_length, 0))
    body = os.pread(place, body_length, header_length) if body_length else b""
    if header_length + body_length > _KEPT_BYTES:
        os.ftruncate(place, 0)
    return place, header, body


def main() -> None:
    """Answer until the input ends."""
    asked, answers = sys.stdin.fileno(), _private_output()
    if (order := read_frame(asked)) is None:
        return
    place, header, _ = order
    limits = DecodeLimits(**header["limits"])
    rules = PictureRules(**header["rules"]) if header["rules"] else None
    _bound(limits)
    write_frame(answers, place, {"ready": True}, b"")
    while (frame := read_frame(asked)) is not None:
        place, header, body = frame
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
        answer, encoded = _answer(header, body, rules=rules, limits=limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        write_frame(answers, place, answer, encoded)
        del frame, body, encoded  # the next picture may need the room


def _private_output() -> int:
    """Standard output under another number, so that text printed by codecs does not get into the answers."""
    answers = os.dup(1)
    # Python's own last words stay readable.
    sys.stderr = os.fdopen(os.dup(2), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _bound(limits: DecodeLimits) -> None:
    warnings.simplefilter("ignore")  # Pillow has one for every oddity of a file
    Image.preinit()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a thread's stack and arena count as memory
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = limits.memory_bytes + _allocated()
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected, and a core file of it no use
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked for pictures decides when to stop


def _allocated() -> int:
    """Bytes of private writable memory that this process holds already."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def _answer(
    header: Header, body: bytes, *, rules: PictureRules | None, limits: DecodeLimits
) -> tuple[Header, bytes]:
    try:
        if rules is None:
            pixels = decode_rgb(body, largest_pixels=limits.largest_pixels)
            return {"size": pixels.size}, pixels.tobytes()
        return _prepared(header, body, rules=rules, limits=limits)
    except PictureError as error:
        return {"status": error.status, "detail": error.detail}, b""
    except MemoryError:
        detail = f"needs more than {limits.memory_bytes >> 20} MiB"
        return {"status": FetchStatus.DECODER_CRASH, "detail": detail}, b""


def _prepared(
    header: Header, body: bytes, *, rules: PictureRules, limits: DecodeLimits
) -> tuple[Header, bytes]:
    prepared = prepare(body, faces=header["faces"], rules=rules, largest_pixels=limits.largest_pixels)
    facts = {
        "kept": prepared.encoded is None,
        "picture": asdict(prepared.picture),
        "exif": prepared.exif,
    }
    return facts, prepared.encoded or b""


if __name__ == "__main__":
    main()
