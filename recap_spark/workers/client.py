"""A checked url → its bytes, or a reason: one attempt, with its redirects"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from recap_spark.statuses import FetchStatus
from recap_spark.workers.addresses import guarded_sockets
from recap_spark.workers.faults import FetchError, before_the_reply, within_the_body
from recap_spark.workers.hosts import Hosts, off_the_clock
from recap_spark.workers.limits import FetchLimits
from recap_spark.workers.reservations import refuse_reserved
from recap_spark.workers.urls import allowed_url, host_name, redirected_url

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STATUSES = {
    401: FetchStatus.FORBIDDEN,
    403: FetchStatus.FORBIDDEN,
    404: FetchStatus.GONE,
    410: FetchStatus.GONE,
    429: FetchStatus.THROTTLED,
    451: FetchStatus.FORBIDDEN,
}


@dataclass
class Errand:
    """One url under way: what it has cost so far, and the clock it runs against."""

    clock: asyncio.Timeout
    attempts: int = 0


@dataclass(frozen=True)
class Body:
    content: bytes
    sha256: str


class Client:
    """One session of one worker process, for use inside its event loop."""

    def __init__(self, session: aiohttp.ClientSession, *, limits: FetchLimits) -> None:
        self.budget = ByteBudget(limits.bytes_in_flight)
        self._session = session
        self._limits = limits
        self._hosts = Hosts(limits)

    async def attempt(self, text: str | None, *, errand: Errand) -> Body:
        """Follow redirects by hand, so that every hop passes the checks that the first url passed."""
        url = allowed_url(text, limits=self._limits)
        for hop in range(self._limits.redirects + 1):
            async with self._hosts.call(host_name(url), clock=errand.clock):
                errand.attempts += hop == 0
                answer = await self._hop(url, errand=errand)
            if isinstance(answer, Body):
                return answer
            url = answer
        raise FetchError(FetchStatus.REDIRECT_LIMIT, f"more than {self._limits.redirects} redirects")

    async def _hop(self, url: URL, *, errand: Errand) -> Body | URL:
        # On a reused connection that its server had closed, aiohttp asks once more by itself.
        try:
            async with self._session.get(url, allow_redirects=False) as reply:
                location = reply.headers.get("Location")
                if reply.status in _REDIRECTS and location is not None:
                    return redirected_url(location, base=url, limits=self._limits)
                return await self._body(reply, errand=errand)
        except FetchError:
            raise
        except Exception as cause:  # hostile urls and replies make aiohttp and yarl raise even AssertionError
            raise before_the_reply(cause) from cause

    async def _body(self, reply: aiohttp.ClientResponse, *, errand: Errand) -> Body:
        _refuse_status(reply, longest_wait_s=self._limits.longest_retry_after_s)
        refuse_reserved(reply.headers, limits=self._limits)
        announced = reply.content_length or 0
        if announced > self._limits.largest_bytes:
            raise FetchError(FetchStatus.TOO_LARGE, f"announces {announced} bytes")
        try:
            return await self._read(reply, errand=errand)
        except (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as cause:
            raise within_the_body(cause) from cause

    async def _read(self, reply: aiohttp.ClientResponse, *, errand: Errand) -> Body:
        chunks: list[bytes] = []
        digest = hashlib.sha256()
        size = 0
        try:
            async for chunk in reply.content.iter_any():
                size += len(chunk)  # decompressed bytes: what a bomb would fill memory with
                if size > self._limits.largest_bytes:
                    raise FetchError(FetchStatus.TOO_LARGE, f"cut off at {self._limits.largest_bytes} bytes")
                await self.budget.take(errand, len(chunk), clock=errand.clock)
                digest.update(chunk)
                chunks.append(chunk)
        except BaseException:
            self.budget.give_back(errand)
            raise
        return Body(content=b"".join(chunks), sha256=digest.hexdigest())


class ByteBudget:
    """How many bytes of bodies are held at once. The oldest holder may exceed it, so none is stuck."""

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
async def open_client(limits: FetchLimits) -> AsyncIterator[Client]:
    """A client whose sockets cannot lead inside, and that carries no cookies, proxies or credentials."""
    connector = aiohttp.TCPConnector(
        limit=0,  # Hosts counts, so that waiting there does not run against a deadline
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
        yield Client(session, limits=limits)


def _refuse_status(reply: aiohttp.ClientResponse, *, longest_wait_s: float) -> None:
    code = reply.status
    if code == 200:
        return
    status = _STATUSES.get(code)
    if status is None:
        by_hundreds = {4: FetchStatus.HTTP_4XX, 5: FetchStatus.HTTP_5XX}
        status = by_hundreds.get(code // 100, FetchStatus.HTTP_OTHER)
    wait_s = _retry_after_s(reply.headers.get("Retry-After")) if code in (429, 503) else None
    bounded_s = None if wait_s is None else min(wait_s, longest_wait_s)
    raise FetchError(status, f"HTTP {code}", retry_after_s=bounded_s)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, from either of the header's two forms; None if it is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:12])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
