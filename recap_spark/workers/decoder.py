"""Frames on standard input → frames on standard output: a process that prepares one picture after another

Run as `python -m recap_spark.workers.decoder`. The first frame holds the rules, each further one a body and
its faces; a frame is answered before the next is read. The process ends with its input: it outlives nobody.

It bounds itself: memory by RLIMIT_DATA, a picture's CPU time by a timer whose signal kills. So a codec that
crashes, hangs or swells takes this process along, and nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import warnings
from dataclasses import asdict
from typing import IO, Any

from PIL import AvifImagePlugin, Image

from recap_spark.statuses import FetchStatus
from recap_spark.workers.picture_rules import PictureRules
from recap_spark.workers.pictures import PictureError
from recap_spark.workers.preparing import prepare

Header = dict[str, Any]

_LENGTHS = struct.Struct("!II")  # of the header as JSON, and of the bytes behind it


def write_frame(stream: IO[bytes], header: Header, body: bytes) -> None:
    encoded = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(encoded), len(body)) + encoded)
    stream.write(body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Header, bytes] | None:
    """The next frame; None where the stream ends, be it in the middle of one."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    header_length, body_length = _LENGTHS.unpack(lengths)
    encoded, body = stream.read(header_length), stream.read(body_length)
    if len(encoded) < header_length or len(body) < body_length:
        return None
    return json.loads(encoded), body


def main() -> None:
    """Answer until the input ends."""
    asked, answers = sys.stdin.buffer, _private_output()
    if (order := read_frame(asked)) is None:
        return
    rules, largest_pixels = PictureRules(**order[0]["rules"]), order[0]["largest_pixels"]
    _bound(rules)
    write_frame(answers, {"ready": True}, b"")
    while (frame := read_frame(asked)) is not None:
        signal.setitimer(signal.ITIMER_PROF, rules.decode_s)
        header, encoded = _answer(*frame, rules=rules, largest_pixels=largest_pixels)
        signal.setitimer(signal.ITIMER_PROF, 0)
        write_frame(answers, header, encoded)
        del frame, encoded  # the next picture may need the room


def _private_output() -> IO[bytes]:
    """Standard output under a number of its own; codecs that print, print nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    # Python's own last words stay readable.
    sys.stderr = os.fdopen(os.dup(2), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _bound(rules: PictureRules) -> None:
    warnings.simplefilter("ignore")  # Pillow has one for every oddity of a file
    Image.preinit()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a thread's stack and arena count as memory
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = rules.decode_bytes + _allocated()
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected, and a core file of it no use
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked for pictures decides when to stop


def _allocated() -> int:
    """Bytes of private writable memory that this process holds already."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def _answer(header: Header, body: bytes, *, rules: PictureRules, largest_pixels: int) -> tuple[Header, bytes]:
    try:
        prepared = prepare(body, faces=header["faces"], rules=rules, largest_pixels=largest_pixels)
    except PictureError as error:
        return {"status": error.status, "detail": error.detail}, b""
    except MemoryError:
        detail = f"needs more than {rules.decode_bytes >> 20} MiB"
        return {"status": FetchStatus.DECODER_CRASH, "detail": detail}, b""
    facts = {"kept": prepared.encoded is None, "picture": asdict(prepared.picture)}
    return facts, prepared.encoded or b""


if __name__ == "__main__":
    main()
