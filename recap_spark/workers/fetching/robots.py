"""A url → whether its host's robots.txt lets us ask for it, and how slowly (RFC 9309)

| robots.txt | then |
|---|---|
| 2xx | its rules hold, for the longest group that names our token, else those for `*` |
| 4xx but 429, and any other reply that is neither an error nor a redirect | everything is allowed |
| more than five redirects | everything is allowed |
| 5xx, 429, no HTTP, cut off, too slow, a redirect to where we do not go | nothing is, for a while |
| no address, no connection, no TLS | nothing is, for a while, and the url ends as its host does: `dns`, … |

The RFC lets a crawler take 429 for permission; it is a server that wants fewer requests, not more.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import PASSING_FAILURES, FetchStatus
from recap_spark.workers.fetching.attempts import UrlAttempts, off_the_clock, persistently
from recap_spark.workers.fetching.executor_state import ExecutorState
from recap_spark.workers.fetching.failures import FetchError, before_the_reply, within_the_body
from recap_spark.workers.fetching.hosts import Hosts, taken
from recap_spark.workers.fetching.http_status import REDIRECTS, refuse_status
from recap_spark.workers.fetching.robots_cache import Answer, RobotsCache
from recap_spark.workers.fetching.urls import host_name, redirected_url

_REDIRECTS_FOLLOWED = 5  # RFC 9309, 2.3.1.2: at least five
_PATH = URL("/robots.txt")

# What says more of the host than that its robots.txt cannot be had.
_OF_THE_HOST = frozenset(
    {
        FetchStatus.DNS,
        FetchStatus.CONNECT,
        FetchStatus.TLS,
        FetchStatus.PRIVATE_ADDRESS,
        FetchStatus.BAD_URL,
        FetchStatus.HOST_DOWN,
        FetchStatus.THROTTLED,
    }
)
# Hosts knows for how long these hold.
_NOT_KEPT = frozenset({FetchStatus.HOST_DOWN, FetchStatus.THROTTLED})


class Robots:
    """The robots.txt of every origin that is requested; each is fetched once, however many urls wait for
    it.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        hosts: Hosts,
        cache: RobotsCache,
        shared: ExecutorState | None,
        limits: FetchLimits,
    ) -> None:
        self._session = session
        self._hosts = hosts
        self._cache = cache
        self._shared = shared
        self._limits = limits
        self._asking: dict[str, asyncio.Task[Answer]] = {}

    async def admit(self, url: URL, *, clock: asyncio.Timeout) -> float:
        """Raise unless the url may be requested; return the seconds between two requests to its host.

        The wait for robots.txt does not count towards the url's deadline; robots.txt has one of its own.
        """
        if self._limits.robots_txt == "ignore":
            return self._limits.host_delay_s
        agent = self._limits.agent_token
        answer = self._cache.get(_origin(url))
        if answer is None:
            async with off_the_clock(clock):
                answer = await self._asked(url)
        answer.refuse(url.raw_path_qs, agent=agent)
        wanted_s = min(answer.delay_s(agent=agent), self._limits.longest_crawl_delay_s)
        return max(wanted_s, self._limits.host_delay_s)

    async def _asked(self, url: URL) -> Answer:
        origin = _origin(url)
        asking = self._asking.get(origin)
        if asking is None:
            asking = self._asking[origin] = asyncio.create_task(self._learn(url.join(_PATH), origin))
            asking.add_done_callback(lambda _: self._asking.pop(origin, None))
        return await asyncio.shield(asking)

    async def _learn(self, url: URL, origin: str) -> Answer:
        if self._shared is None:
            return await self._ask(url, origin)
        place = await taken(self._shared, f"robots.txt of {origin}", places=1)
        try:  # a neighbour may have asked meanwhile
            return self._cache.get(origin) or await self._ask(url, origin)
        finally:
            self._shared.leave(place)

    async def _ask(self, url: URL, origin: str) -> Answer:
        limits = self._limits
        url_attempts = UrlAttempts(clock=asyncio.timeout(limits.robots_deadline_s))
        try:
            async with url_attempts.clock:
                text = await persistently(
                    partial(self._text, url, url_attempts), url_attempts=url_attempts, limits=limits
                )
            answer = Answer(text, None, None, time.time() + limits.robots_ttl_s)
        except TimeoutError:
            detail = f"not complete in {limits.robots_deadline_s:g} s"
            answer = self._unreachable(FetchStatus.ROBOTS_UNREACHABLE, detail)
        except FetchError as error:
            answer = self._unreachable(error.status, error.detail)
        if answer.status not in _NOT_KEPT:
            self._cache.put(origin, answer)
        return answer

    def _unreachable(self, status: FetchStatus, detail: str) -> Answer:
        return Answer("", status, detail, time.time() + self._limits.robots_unreachable_for_s)

    async def _text(self, url: URL, url_attempts: UrlAttempts) -> str:
        url_attempts.attempts += 1
        for hop in range(_REDIRECTS_FOLLOWED + 1):
            try:
                async with self._hosts.call(
                    host_name(url), clock=url_attempts.clock, delay_s=self._limits.host_delay_s
                ):
                    answer = await self._hop(url)
            except FetchError as error:
                if hop == 0 and error.status in _OF_THE_HOST:
                    raise
                raise FetchError(
                    FetchStatus.ROBOTS_UNREACHABLE,
                    error.detail,
                    retry_after_s=error.retry_after_s,
                    lasting=error.lasting or error.status not in PASSING_FAILURES,
                ) from error
            if isinstance(answer, str):
                return answer
            url = answer
        return ""

    async def _hop(self, url: URL) -> str | URL:
        try:
            async with self._session.get(url, allow_redirects=False) as reply:
                location = reply.headers.get("Location")
                if reply.status in REDIRECTS and location is not None:
                    return _redirected(location, base=url, limits=self._limits)
                if reply.status == 429 or reply.status >= 500:
                    refuse_status(reply, longest_wait_s=self._limits.longest_retry_after_s)
                return await self._body(reply) if reply.status // 100 == 2 else ""
        except FetchError:
            raise
        except Exception as cause:  # as for pictures: hostile replies raise even AssertionError
            raise before_the_reply(cause) from cause

    async def _body(self, reply: aiohttp.ClientResponse) -> str:
        largest = self._limits.robots_largest_bytes
        content = bytearray()
        try:
            async for chunk in reply.content.iter_any():
                content += chunk
                if len(content) > largest:  # RFC 9309, 2.5: the rest is not there, nor is half a line
                    del content[content.rfind(b"\n", 0, largest) + 1 :]
                    break
        except (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as cause:
            raise within_the_body(cause) from cause
        return content.decode("utf-8-sig", errors="replace")


def _redirected(location: str, *, base: URL, limits: FetchLimits) -> URL:
    try:
        return redirected_url(location, base=base, limits=limits)
    except FetchError as error:
        detail = f"redirect: {error.detail}"
        raise FetchError(FetchStatus.ROBOTS_UNREACHABLE, detail, lasting=True) from error


def _origin(url: URL) -> str:
    return f"{url.scheme}://{host_name(url)}:{url.port}"
