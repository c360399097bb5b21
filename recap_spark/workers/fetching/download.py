"""urls → bytes or a reason, as they finish"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any

from aiohttp import ThreadedResolver

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.attempts import UrlAttempts, persistently
from recap_spark.workers.fetching.client import Body, Client, open_client
from recap_spark.workers.fetching.failures import FetchError
from recap_spark.workers.metadata.sha256 import known_sha256
from recap_spark.workers.pictures.faces import Box

NO_HASH = "not compared: samples.sha256 is not 64 hexadecimal digits"
"""The detail of a picture whose metadata promises what can be no hash."""


@dataclass(frozen=True, kw_only=True)
class Request:
    uid: str
    url: str | None
    sha256: str | None  # of the raw bytes, as the metadata promises; None if it promises nothing
    attempts: int  # made by earlier runs
    face_bboxes: Sequence[Box | None] = ()


@dataclass(frozen=True, kw_only=True)
class Download:
    uid: str
    status: FetchStatus
    detail: str | None
    body: bytes | None  # None unless the status is ok
    sha256: str | None  # None if no body was read to its end
    sha256_matches: bool | None  # None if there are not two to compare, or they are not to be
    attempts: int  # over all runs; a url that was refused without being tried adds none
    fetched_at: datetime
    face_bboxes: Sequence[Box | None]  # as they were asked for


def download_all(requests: Iterable[Request], *, settings: FetchLimits) -> Iterator[Download]:
    """Yield one download per request, in the order they finish.

    Requests are drawn only as fast as downloads are taken: at most `lookahead` are under way or waiting to be
    taken, and their bodies hold at most `bytes_in_flight`, exceeded by one body at most.
    """
    under_way = 0
    with _network(settings) as network:
        for request in requests:
            network.start(_finish(request, network.client, settings))
            under_way += 1
            while under_way >= settings.lookahead or not network.finished.empty():
                yield from network.take()
                under_way -= 1
        for _ in range(under_way):
            yield from network.take()


@dataclass(frozen=True)
class _Finished:
    download: Download
    holder: object  # of the body's bytes in the budget


@dataclass(frozen=True)
class _Network:
    """An event loop in a thread of its own, so that the network goes on while the caller decodes pictures."""

    loop: asyncio.AbstractEventLoop
    client: Client
    finished: SimpleQueue[asyncio.Task[_Finished]] = field(default_factory=SimpleQueue)
    under_way: set[asyncio.Task[_Finished]] = field(default_factory=set)  # asyncio itself lets go of tasks
    orders: deque[Callable[[], object]] = field(default_factory=deque)  # not yet seen by the loop
    woken: threading.Event = field(default_factory=threading.Event)

    def start(self, work: Coroutine[Any, Any, _Finished]) -> None:
        self._order(partial(self._begin, work))

    def take(self) -> Iterator[Download]:
        """Wait for one download and return it; its bytes count until the caller asks for the next."""
        finished = self.finished.get().result()
        yield finished.download
        self._order(partial(self.client.budget.give_back, finished.holder))

    def _order(self, order: Callable[[], object]) -> None:
        self.orders.append(order)
        if not self.woken.is_set():  # waking costs system calls, and one time serves many orders
            self.woken.set()
            self.loop.call_soon_threadsafe(self._obey)

    def _obey(self) -> None:
        self.woken.clear()  # first, so that an order that comes too late for the next line wakes us again
        while self.orders:
            self.orders.popleft()()

    def _begin(self, work: Coroutine[Any, Any, _Finished]) -> None:
        task = self.loop.create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.remove)
        task.add_done_callback(self.finished.put)


@contextmanager
def _network(limits: FetchLimits) -> Iterator[_Network]:
    loop = asyncio.new_event_loop()
    resolvers = ThreadPoolExecutor(max_workers=limits.dns_threads, thread_name_prefix="dns")
    loop.set_default_executor(resolvers)
    thread = threading.Thread(target=loop.run_forever, name="fetch", daemon=True)
    thread.start()
    open_things = AsyncExitStack()
    try:
        opening = asyncio.run_coroutine_threadsafe(_opened(limits, into=open_things), loop)
        yield _Network(loop=loop, client=opening.result())
    finally:
        asyncio.run_coroutine_threadsafe(_wind_down(open_things), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        # getaddrinfo cannot be interrupted: a stuck one ends by itself, and nobody waits for it.
        resolvers.shutdown(wait=False, cancel_futures=True)


async def _opened(limits: FetchLimits, *, into: AsyncExitStack) -> Client:
    return await into.enter_async_context(open_client(limits, resolver=ThreadedResolver()))


async def _wind_down(open_things: AsyncExitStack) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await open_things.aclose()


async def _finish(request: Request, client: Client, limits: FetchLimits) -> _Finished:
    url_attempts = UrlAttempts(clock=asyncio.timeout(limits.deadline_s))
    body: Body | None = None
    status: FetchStatus
    detail: str | None
    try:
        async with url_attempts.clock:
            attempt = partial(client.attempt, request.url, url_attempts=url_attempts)
            body = await persistently(attempt, url_attempts=url_attempts, limits=limits)
        status, detail = FetchStatus.OK, None
    except TimeoutError:
        status, detail = FetchStatus.TIMEOUT, f"not complete in {limits.deadline_s:g} s"
    except FetchError as error:
        status, detail = error.status, error.detail
    promised = None if limits.hash_mismatch == "ignore" else known_sha256(request.sha256)
    matches = None if body is None or promised is None else body.sha256 == promised
    if status is FetchStatus.OK and promised is None and (request.sha256 or "").strip():
        detail = None if limits.hash_mismatch == "ignore" else NO_HASH
    download = Download(
        uid=request.uid,
        status=status,
        detail=detail,
        body=body.content if body is not None and status is FetchStatus.OK else None,
        sha256=None if body is None else body.sha256,
        sha256_matches=matches,
        attempts=request.attempts + url_attempts.attempts,
        fetched_at=datetime.now(UTC),
        face_bboxes=request.face_bboxes,
    )
    return _Finished(download, holder=url_attempts)
