"""What our fetch cannot do without: aiohttp, sha256 and Pillow over the same rows, and nothing else

No robots.txt, no hosts, no deadlines, no checks of addresses, no process that a picture may kill: what is
left bounds whoever fetches with these libraries. img2dataset has urllib and OpenCV instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256

import aiohttp
from fetching.sides import Web, timed_shares

from recap_spark.settings.pictures import PictureRules
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.preparing import prepare


def run_bare(
    web: Web, *, rows: int, connections: int, rules: PictureRules, largest_pixels: int
) -> tuple[float, int]:
    """Seconds for so many rows in fresh processes, whose starts are left out, and how many were good."""
    fetch = partial(_fetch_share, web, connections=connections, rules=rules, largest_pixels=largest_pixels)
    seconds, good = timed_shares(fetch, rows=rows)
    return seconds, sum(good)


def _fetch_share(
    web: Web, first: int, after: int, *, connections: int, rules: PictureRules, largest_pixels: int
) -> int:
    rows = web.rows(first, after)
    return asyncio.run(_get_all(rows, connections, rules=rules, largest_pixels=largest_pixels))


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
