"""What our fetch cannot do without: aiohttp, sha256 and Pillow over the same rows, and nothing else

No robots.txt, no hosts, no deadlines, no checks of addresses, no process that a picture may kill: what is
left bounds whoever fetches with these libraries. img2dataset has urllib and OpenCV instead.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from multiprocessing.connection import Connection

import aiohttp
from fetch_sides import PROCESSES, Web

from recap_spark.workers.picture_rules import PictureRules
from recap_spark.workers.pictures import PictureError
from recap_spark.workers.preparing import prepare


def run_bare(
    web: Web, *, rows: int, connections: int, rules: PictureRules, largest_pixels: int
) -> tuple[float, int]:
    """Seconds for so many rows in fresh processes, whose starts are left out, and how many were good."""
    context = multiprocessing.get_context("spawn")
    edges = [rows * place // PROCESSES for place in range(PROCESSES + 1)]
    pipes = [context.Pipe() for _ in range(PROCESSES)]
    workers = [
        context.Process(
            target=_share,
            args=(web, *edges[place : place + 2], connections, rules, largest_pixels, theirs),
            daemon=True,
        )
        for place, (_, theirs) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for ours, theirs in pipes:
        theirs.close()  # so that a process that dies is an end of file here, and no wait for ever
        ours.recv()
    started = time.perf_counter()
    for ours, _ in pipes:
        ours.send(None)
    good = sum(ours.recv() for ours, _ in pipes)
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return seconds, good


def _share(
    web: Web,
    first: int,
    after: int,
    connections: int,
    rules: PictureRules,
    largest_pixels: int,
    turn: Connection,
) -> None:
    turn.send(None)
    turn.recv()
    turn.send(
        asyncio.run(_get_all(web.rows(first, after), connections, rules=rules, largest_pixels=largest_pixels))
    )


async def _get_all(
    rows: Iterator[dict[str, str]], connections: int, *, rules: PictureRules, largest_pixels: int
) -> int:
    async def draw(session: aiohttp.ClientSession) -> int:
        good = 0
        for row in rows:
            async with session.get(row["url"]) as reply:
                body = await reply.read()
            with suppress(PictureError):
                prepare(body, faces=(), rules=rules, largest_pixels=largest_pixels)
                good += sha256(body).hexdigest() == row["sha256"]
        return good

    connector, no_cookies = aiohttp.TCPConnector(limit=0), aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=no_cookies) as session:
        return sum(await asyncio.gather(*(draw(session) for _ in range(connections))))
