"""A checked url → its bytes, or a reason: one attempt, with its redirects

HTTP/1.1, which is all that aiohttp speaks. The pictures of a web-scale table lie a few to a host, so there is
little for HTTP/2 to multiplex.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import http_exceptions
from aiohttp.abc import AbstractResolver
from yarl import URL

from recap_spark.errors import PlatformError
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.addresses import guarded_sockets
from recap_spark.workers.fetching.attempts import UrlAttempts, off_the_clock
from recap_spark.workers.fetching.executor_state import ExecutorState, executor_state
from recap_spark.workers.fetching.failures import FetchError, before_the_reply, within_the_body
from recap_spark.workers.fetching.hosts import Hosts, taken
from recap_spark.workers.fetching.http_status import REDIRECTS, refuse_status
from recap_spark.workers.fetching.reservations import refuse_reserved
from recap_spark.workers.fetching.robots import Robots
from recap_spark.workers.fetching.robots_cache import RobotsCache, Shelf
from recap_spark.workers.fetching.urls import allowed_url, host_name, redirected_url

# Idle sockets, look-ups and decoders' files come on top of the connections.
_DESCRIPTORS_BESIDE, _DESCRIPTORS_WISHED = 256, 65536


@dataclass(frozen=True)
class Body:
    content: bytes
    sha256: str


class Client:
    """One session of one worker process, for use inside its event loop."""

    def __init__(
        self, session: aiohttp.ClientSession, *, hosts: Hosts, robots: Robots, limits: FetchLimits
    ) -> None:
        self.budget = ByteBudget(limits.bytes_in_flight)
        self._session = session
        self._hosts = hosts
        self._robots = robots
        self._limits = limits

    async def attempt(self, text: str | None, *, url_attempts: UrlAttempts) -> Body:
        """Follow redirects by hand, so that every hop passes the checks that the first url passed."""
        url = allowed_url(text, limits=self._limits)
        for hop in range(self._limits.redirects + 1):
            delay_s = await self._admitted(url, hop=hop, url_attempts=url_attempts)
            async with self._hosts.call(host_name(url), clock=url_attempts.clock, delay_s=delay_s):
                url_attempts.attempts += hop == 0
                answer = await self._hop(url, url_attempts=url_attempts)
            if isinstance(answer, Body):
                return answer
            url = answer
        raise FetchError(FetchStatus.REDIRECT_LIMIT, f"more than {self._limits.redirects} redirects")

    async def _admitted(self, url: URL, *, hop: int, url_attempts: UrlAttempts) -> float:
        try:
            return await self._robots.admit(url, clock=url_attempts.clock)
        except FetchError as error:
            # A host that gives no robots.txt has been tried, or its urls would be tried for ever.
            tried = error.status not in (FetchStatus.ROBOTS, FetchStatus.HOST_DOWN)
            url_attempts.attempts += hop == 0 and tried
            raise

    async def _hop(self, url: URL, *, url_attempts: UrlAttempts) -> Body | URL:
        # On a reused connection that its server had closed, aiohttp asks once more by itself.
        try:
            async with self._session.get(url, allow_redirects=False) as reply:
                location = reply.headers.get("Location")
                if reply.status in REDIRECTS and location is not None:
                    return redirected_url(location, base=url, limits=self._limits)
                return await self._body(reply, url_attempts=url_attempts)
        except FetchError:
            raise
        except Exception as cause:  # hostile urls and replies make aiohttp and yarl raise even AssertionError
            raise before_the_reply(cause) from cause

    async def _body(self, reply: aiohttp.ClientResponse, *, url_attempts: UrlAttempts) -> Body:
        refuse_status(reply, longest_wait_s=self._limits.longest_retry_after_s)
        refuse_reserved(reply.headers, limits=self._limits)
        announced = reply.content_length or 0
        if announced > self._limits.largest_bytes:
            raise FetchError(FetchStatus.TOO_LARGE, f"announces {announced} bytes")
        try:
            return await self._read(reply, url_attempts=url_attempts)
        except (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as cause:
            raise within_the_body(cause) from cause

    async def _read(self, reply: aiohttp.ClientResponse, *, url_attempts: UrlAttempts) -> Body:
        chunks: list[bytes] = []
        digest = hashlib.sha256()
        size = 0
        try:
            async for chunk in reply.content.iter_any():
                size += len(chunk)  # decompressed bytes: what a bomb would fill memory with
                if size > self._limits.largest_bytes:
                    raise FetchError(FetchStatus.TOO_LARGE, f"cut off at {self._limits.largest_bytes} bytes")
                await self.budget.take(url_attempts, len(chunk), clock=url_attempts.clock)
                digest.update(chunk)
                chunks.append(chunk)
        except BaseException:
            self.budget.give_back(url_attempts)
            raise
        return Body(content=b"".join(chunks), sha256=digest.hexdigest())


class ByteBudget:
    """A limit on the bytes of bodies held at once. The oldest holder may exceed it, so that one always goes
    on.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._held: dict[int, int] = {}  # in the order of arrival
        self._total = 0
        self._eased = asyncio.Event()

    async def take(self, holder: object, size: int, *, clock: asyncio.Timeout) -> None:
        """Count more bytes to a holder, once there is room for them."""
        key = id(holder)
        self._held.setdefault(key, 0)
        if not self._room(key, size):
            async with off_the_clock(clock):
                while not self._room(key, size):
                    self._eased.clear()
                    await self._eased.wait()
        self._held[key] += size
        self._total += size

    def give_back(self, holder: object) -> None:
        self._total -= self._held.pop(id(holder), 0)
        self._eased.set()

    def _room(self, key: int, size: int) -> bool:
        return self._total + size <= self._largest or next(iter(self._held)) == key


@contextlib.asynccontextmanager
async def open_client(limits: FetchLimits, *, resolver: AbstractResolver) -> AsyncIterator[Client]:
    """A client whose sockets cannot reach private addresses, and which uses no cookies, proxies or
    credentials.

    Raises PlatformError where hosts are to be shared by an executor that is not there, or where this process
    may not open as many sockets.
    """
    _raise_descriptor_limit(limits.connections)
    shared = executor_state(os.environ) if limits.hosts_shared_by == "executor" else None
    connector = aiohttp.TCPConnector(
        limit=0,  # Hosts counts, so that waiting there does not run against a deadline
        resolver=resolver,
        ttl_dns_cache=limits.dns_ttl_s,
        dns_cache_max_size=limits.hosts_remembered,
        keepalive_timeout=limits.keep_alive_s,
        socket_factory=guarded_sockets(limits.reachable_private_networks),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=limits.request_headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
        trust_env=False,
    ) as session:
        with contextlib.closing(await _robots_cache(limits, shared=shared)) as cache:
            hosts = Hosts(limits, shared=shared)
            robots = Robots(session, hosts=hosts, cache=cache, shared=shared, limits=limits)
            yield Client(session, hosts=hosts, robots=robots, limits=limits)


def _raise_descriptor_limit(connections: int) -> None:
    """Allow as many open files as needed: without descriptors a resolver reports an unknown host, so a
    working host would seem dead.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else _DESCRIPTORS_WISHED
    if most < (needed := connections + _DESCRIPTORS_BESIDE):
        wanted = f"want {needed} file descriptors for fetch.limits.connections: {connections}"
        raise PlatformError(
            f"{wanted}, found a limit of {most} (ulimit -Hn): raise it, or set fewer connections"
        )
    if soft != resource.RLIM_INFINITY and soft < min(most, _DESCRIPTORS_WISHED):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _DESCRIPTORS_WISHED), hard))


async def _robots_cache(limits: FetchLimits, *, shared: ExecutorState | None) -> RobotsCache:
    shelf: Shelf | None = None
    if shared is not None and limits.robots_txt == "obey":
        # SQLite does not wait for its turn while another process turns the same new file into a database.
        place = await taken(shared, "robots.sqlite", places=1)
        try:
            shelf = Shelf(shared.folder / "robots.sqlite", largest_bytes=limits.robots_disk_bytes)
        finally:
            shared.leave(place)
    return RobotsCache(entries=limits.hosts_remembered, text_bytes=limits.robots_memory_bytes, shelf=shelf)
