"""Where the CPU time of a kept picture goes: the fetch stage by processes, and its parts alone

The stage runs in a Spark of the laptop's settings and commits to Delta; the kernel says what its JVM, its
Python workers and their decoders took. Then the parts that cannot be left out are timed alone, over the same
pictures: aiohttp's client, sha256, Arrow's rows, libjpeg. What a process took beyond its parts is its rest.
Each part alone finds its caches warm, so rests are rather too large than too small.
What a run costs whatever its size (units, commits, four tasks' decoders) is spread over its rows: a thousand
are too few to say what a million cost.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import aiohttp
import pyarrow as pa
from fetching.sides import Web
from pyspark.sql import functions as F
from rich.console import Console

from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.session import start
from recap_spark.progress import Progress
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.loading import load
from recap_spark.settings.pictures import PictureRules
from recap_spark.settings.schema import LakeSettings, Settings
from recap_spark.stages.fetch import fetch
from recap_spark.statuses import FetchStatus
from recap_spark.tables import IMAGES, SAMPLES
from recap_spark.workers.fetching.fetcher import FETCHED
from recap_spark.workers.pictures.pictures import decode_rgb, opened
from recap_spark.workers.pictures.preparing import prepare

_CONF = Path(__file__).parents[2] / "conf"
_AT_ONCE = 32  # of the client alone
_ALONE = 1000  # pictures, of each part alone
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_JVM, _WORKERS, _DECODERS = "JVM: Spark, Arrow, Delta", "Python workers", "decoders"
_KINDS = {b"recap_spark.workers.pictures.decoder": _DECODERS, b"pyspark.daemon": _WORKERS, b"java": _JVM}


def print_profile(
    web: Web, bodies: Sequence[bytes], *, rows: int, limits: FetchLimits, resized: PictureRules
) -> None:
    """A line for each process and each part: milliseconds of CPU time a picture, and its share of all."""
    whole = {kind: 1e3 * spent / rows for kind, spent in _stage_cpu_s(web, rows, limits).items()}
    client, hashing, arrow, header, proof, pixels, small = _parts_alone(web, bodies, resized)
    lines = {
        _WORKERS: whole[_WORKERS],
        "  aiohttp's client alone": client,
        "  sha256 alone": hashing,
        "  Arrow's rows alone": arrow,
        "  rest: robots.txt, hosts, deadlines, queues": whole[_WORKERS] - client - hashing - arrow,
        _DECODERS: whole[_DECODERS],
        "  Pillow, by the header alone": header,
        "  libjpeg at 1/8, grey: Huffman decoding": proof - header,
        "  rest: starts, travel": whole[_DECODERS] - proof,
        _JVM: whole[_JVM],
    }
    total = sum(whole.values())
    print(f"\n{'part':46}{'ms CPU per image':>18}{'share':>8}")
    for name, spent in (lines | {"all": total}).items():
        print(f"{name:46}{spent:>18.2f}{spent / total:>8.0%}")
    bound = client + hashing + proof
    print(f"\nclient, sha256 and proof alone: {bound:.2f} ms, {bound / total:.0%} of all")
    print(f"not done to kept pictures: to decode them whole, as RGB: {pixels:.2f} ms")
    print(f"and to decode them, make them {resized.image_size} px and encode them again: {small:.2f} ms")


def _stage_cpu_s(web: Web, rows: int, limits: FetchLimits) -> dict[str, float]:
    """Seconds by kind of process over one run of the stage, after one that warms them."""
    settings = _settings(limits)
    with _session(settings) as lake:
        for name, count in (("warm_up", max(rows // 5, 200)), ("timed", rows)):
            made = _filled(Lake(lake.spark, lake.settings.model_copy(update={"namespace": name})), web, count)
            before = _cpu_s()
            fetch.run(made, settings, Progress(Console(file=sys.stderr, force_terminal=False)))
            after = _cpu_s()
            ended = made.read(IMAGES).groupBy("status").count().collect()
            if {row["status"]: row["count"] for row in ended} != {str(FetchStatus.OK): count}:
                raise SystemExit(f"could not measure: want {count} pictures, found {ended}")
    return {kind: after[kind] - before[kind] for kind in (_WORKERS, _DECODERS, _JVM)}


def _settings(limits: FetchLimits) -> Settings:
    base = load(_CONF / "base.yml", _CONF / "laptop.yml")
    # A few pictures behind all urls are what a placeholder is.
    none = base.fetch.placeholders.model_copy(update={"urls": None})
    return base.model_copy(
        update={"fetch": base.fetch.model_copy(update={"limits": limits, "placeholders": none})}
    )


@contextmanager
def _session(settings: Settings) -> Iterator[Lake]:
    with tempfile.TemporaryDirectory(prefix="fetch-profile-") as scratch:
        own = {"metastore": f"{scratch}/metastore", "log": f"{scratch}/spark.log"}
        root = LakeSettings(root=scratch, namespace=None)
        spark = start(settings.session.model_copy(update=own), root)
        try:
            yield Lake(spark, root)
        finally:
            spark.stop()


def _filled(lake: Lake, web: Web, rows: int) -> Lake:
    lake.create(SAMPLES)
    held = lake.spark.createDataFrame(list(web.rows(0, rows)), "uid string, url string, sha256 string")
    held = held.withColumns({"source_row": F.lit(0).cast("bigint"), "source_file": F.lit("benchmark")})
    absent = (field for field in SAMPLES.schema if field.name not in held.columns)
    nulls = [F.lit(None).cast(field.dataType).alias(field.name) for field in absent]
    lake.append(SAMPLES, held.select("*", *nulls), transaction=Transaction("benchmark", 1))
    return lake


def _cpu_s() -> Counter[str]:
    """Seconds that this process's descendants have taken so far, by kind; decoders that have ended are in
    their workers' books, and workers that have ended in those of their daemon, a worker's parent.
    """
    spent: Counter[str] = Counter()
    kinds: dict[int, str | None] = {}
    for process in _descendants(os.getpid()):  # parents come first
        with suppress(OSError):  # it has ended
            command = Path(f"/proc/{process}/cmdline").read_bytes()
            stat = _stat(process)
            user, system, user_ended, system_ended = map(int, stat[11:15])
            kinds[process] = kind = next((kind for word, kind in _KINDS.items() if word in command), None)
            if kind:
                spent[kind] += (user + system) * _TICK_S
            if kind == _WORKERS:
                is_daemon = kinds.get(int(stat[1])) != _WORKERS
                spent[_WORKERS if is_daemon else _DECODERS] += (user_ended + system_ended) * _TICK_S
    return spent


def _stat(process: int) -> list[str]:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _descendants(process: int) -> Iterator[int]:
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _parts_alone(web: Web, bodies: Sequence[bytes], resized: PictureRules) -> tuple[float, ...]:
    """Milliseconds of CPU time a picture: client, sha256, Arrow, header, proof, pixels, resized."""
    base = load(_CONF / "base.yml").fetch
    rules, most = base.picture, base.decode.largest_pixels

    def header(body: bytes) -> None:
        with opened(body, largest_pixels=most):
            pass

    urls = [row["url"] for row in web.rows(0, _ALONE)]
    parts: tuple[Callable[[], object], ...] = (
        lambda: asyncio.run(_get_all(urls)),
        lambda: [sha256(body).hexdigest() for body in _many(bodies)],
        lambda: _rows(bodies),
        lambda: [header(body) for body in _many(bodies)],
        lambda: [prepare(body, faces=(), rules=rules, largest_pixels=most) for body in _many(bodies)],
        lambda: [decode_rgb(body, largest_pixels=most) for body in _many(bodies)],
        lambda: [prepare(body, faces=(), rules=resized, largest_pixels=most) for body in _many(bodies)],
    )
    return tuple(map(_alone_ms, parts))


def _alone_ms(work: Callable[[], object]) -> float:
    work()
    started = time.process_time()
    work()
    return 1e3 * (time.process_time() - started) / _ALONE


def _many(bodies: Sequence[bytes]) -> Iterator[bytes]:
    return (bodies[number % len(bodies)] for number in range(_ALONE))


def _rows(bodies: Sequence[bytes]) -> pa.Table:
    facts = {"uid": "0" * 32, "status": "ok", "sha256": "0" * 64, "sha256_matches": True, "attempts": 1}
    facts |= {"width": 512, "height": 512, "format": "jpeg", "fetched_at": datetime.now(UTC)}
    rows = [facts | {"bytes": body} for body in _many(bodies)]
    return pa.Table.from_pylist(rows, schema=FETCHED)


async def _get_all(urls: Sequence[str]) -> None:
    left = iter(urls)

    async def draw(session: aiohttp.ClientSession) -> None:
        for url in left:
            async with session.get(url) as reply:
                await reply.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(draw(session) for _ in range(_AT_ONCE)))
