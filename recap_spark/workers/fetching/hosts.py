"""Politeness: whether a host may be requested now, and how often"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.attempts import left_s, off_the_clock
from recap_spark.workers.fetching.executor_state import ExecutorState
from recap_spark.workers.fetching.failures import FetchError

# Signs of a dead host. A refusal, even a 500, is a sign of life.
_SIGNS_OF_DEATH = frozenset({FetchStatus.DNS, FetchStatus.CONNECT})

# How long to wait before asking again for what another process holds: locks on files wake nobody.
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.005, 0.2


@dataclass
class _Host:
    places: asyncio.Semaphore
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # to look for a place of the executor's
    callers: int = 0
    next_call: float = 0.0  # by our own delay
    pause_end: float = 0.0  # by Retry-After, on time.monotonic; unless the executor shares its state
    failures: int = 0  # in a row; unless the executor shares its state
    failed_at: float = 0.0  # by time.monotonic
    under_way: int = 0  # requests
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # one of these, since it was last cleared
    down_until: float = 0.0


class _Held:
    """One of a semaphore's places; a deadline stands still while it is waited for, and only then."""

    def __init__(self, semaphore: asyncio.Semaphore, *, clock: asyncio.Timeout) -> None:
        self._semaphore = semaphore
        self._clock = clock

    async def __aenter__(self) -> None:
        if not self._semaphore.locked():
            await self._semaphore.acquire()  # at once
            return
        async with off_the_clock(self._clock):
            await self._semaphore.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._semaphore.release()


class Hosts:
    """What this process knows of each host, and the places it may hold there.

    Places, delays, failures and the pauses that hosts ask for are the whole executor's where
    `shared` is given.
    """

    def __init__(self, limits: FetchLimits, *, shared: ExecutorState | None) -> None:
        self._limits = limits
        self._shared = shared
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._connections = asyncio.Semaphore(limits.connections)

    @asynccontextmanager
    async def call(self, name: str, *, clock: asyncio.Timeout, delay_s: float) -> AsyncIterator[None]:
        """Hold one of a host's places for one request, as soon as its limits allow.

        `delay_s` is the least time between the starts of two requests to it.
        """
        host = self._host(name)
        host.callers += 1
        try:
            async with _Held(host.places, clock=clock):
                self._refuse_if_down(name, host)
                place = await self._place(name, host, clock=clock)
                try:
                    self._refuse_if_down(name, host)
                    await _wait_as_told(self._pause_end(name, host), clock=clock)
                    await self._keep_the_delay(name, host, delay_s=delay_s, clock=clock)
                    await self._await_verdicts(name, host, clock=clock)
                    async with _Held(self._connections, clock=clock):
                        with self._verdict(name, host, clock=clock):
                            yield
                finally:
                    if place is not None and self._shared is not None:
                        self._shared.leave(place)
        finally:
            host.callers -= 1
            self._forget_one()

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._limits.connections_per_host))
        self._hosts.move_to_end(name)
        return host

    def _forget_one(self) -> None:
        # One call remembers one host at most, so one forgotten after each is enough.
        if len(self._hosts) > self._limits.hosts_remembered:
            idle = next((name for name, host in self._hosts.items() if not host.callers), None)
            if idle is not None:
                del self._hosts[idle]

    async def _place(self, name: str, host: _Host, *, clock: asyncio.Timeout) -> int | None:
        """A place of the executor's, which the caller must release; None where there is no executor."""
        if self._shared is None:
            return None
        places = self._limits.connections_per_host
        if not host.turn.locked() and (place := self._shared.take(name, places=places)) is not None:
            return place
        async with off_the_clock(clock), host.turn:
            return await taken(self._shared, name, places=places)

    async def _keep_the_delay(
        self, name: str, host: _Host, *, delay_s: float, clock: asyncio.Timeout
    ) -> None:
        if not delay_s:
            return
        now = time.monotonic()
        if self._shared is None:
            start = max(now, host.next_call)
            host.next_call = start + delay_s
        else:
            start = self._shared.next_start(name, delay_s=delay_s)
        if start > now:
            async with off_the_clock(clock):
                await asyncio.sleep(start - now)

    async def _await_verdicts(self, name: str, host: _Host, *, clock: asyncio.Timeout) -> None:
        """Wait with further requests to a host while some under way, in any process, may show that it is
        dead: each further one could last a whole deadline.
        """
        while pause_s := self._doubt_s(name, host):
            host.ended.clear()
            async with off_the_clock(clock):
                with suppress(TimeoutError):
                    await asyncio.wait_for(host.ended.wait(), None if host.under_way else pause_s)
            self._refuse_if_down(name, host)

    def _doubt_s(self, name: str, host: _Host) -> float:
        """Seconds to wait for others' requests, unless one of our own is under way; 0 for not at all."""
        count, last = self._failures(name, host)
        is_close = count + self._limits.connections_per_host >= self._limits.dead_after_failures > count > 0
        pause_s = max(0.0, last + self._limits.backoff_s - time.monotonic())
        return (pause_s or float(host.under_way > 0)) if is_close else 0.0

    @contextmanager
    def _verdict(self, name: str, host: _Host, *, clock: asyncio.Timeout) -> Iterator[None]:
        host.under_way += 1
        try:
            with self._counted(name, host, clock=clock):
                yield
        finally:
            host.under_way -= 1
            host.ended.set()

    @contextmanager
    def _counted(self, name: str, host: _Host, *, clock: asyncio.Timeout) -> Iterator[None]:
        if self._failures(name, host)[0] >= self._limits.dead_after_failures:
            self._leave_alone(host)  # but for this one, who tries again
        try:
            yield
        except asyncio.CancelledError:
            if clock.expired():  # else it is we who stop asking
                self._count_failure(name, host)
            raise
        except FetchError as error:
            if error.status in _SIGNS_OF_DEATH:
                self._count_failure(name, host)
            else:
                self._forgive(name, host)
            if error.retry_after_s is not None:
                self._pause(name, host, until=time.monotonic() + error.retry_after_s)
            raise
        self._forgive(name, host)

    def _pause_end(self, name: str, host: _Host) -> float:
        return host.pause_end if self._shared is None else self._shared.pause_end(name)

    def _pause(self, name: str, host: _Host, *, until: float) -> None:
        if self._shared is None:
            host.pause_end = until
        else:
            self._shared.pause(name, until=until)

    def _failures(self, name: str, host: _Host) -> tuple[int, float]:
        """How many in a row, and when the last was."""
        return (host.failures, host.failed_at) if self._shared is None else self._shared.failures(name)

    def _count_failure(self, name: str, host: _Host) -> None:
        if self._shared is None:
            host.failures, host.failed_at = host.failures + 1, time.monotonic()
        else:
            self._shared.add_failure(name)
        if self._failures(name, host)[0] >= self._limits.dead_after_failures:
            self._leave_alone(host)

    def _forgive(self, name: str, host: _Host) -> None:
        host.down_until = 0.0
        if self._shared is None:
            host.failures = 0
        else:
            self._shared.forgive(name)

    def _leave_alone(self, host: _Host) -> None:
        host.down_until = asyncio.get_running_loop().time() + self._limits.dead_for_s

    def _refuse_if_down(self, name: str, host: _Host) -> None:
        failures, _ = self._failures(name, host)
        if failures < self._limits.dead_after_failures:
            host.down_until = 0.0
            return
        if not host.down_until:  # another process has found it dead
            self._leave_alone(host)
        if host.down_until > asyncio.get_running_loop().time():
            raise FetchError(FetchStatus.HOST_DOWN, f"not tried: {failures} failures in a row")


async def taken(shared: ExecutorState, name: str, *, places: int) -> int:
    """Wait for a place of the executor's; the caller leaves it."""
    pause_s = _FIRST_LOOK_S
    while (place := shared.take(name, places=places)) is None:
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, _LONGEST_LOOK_S)
    return place


async def _wait_as_told(until: float, *, clock: asyncio.Timeout) -> None:
    """Honour a host's Retry-After, on the url's clock: else one host could hold all of our places."""
    wait_s = until - time.monotonic()
    if wait_s >= left_s(clock):
        raise FetchError(
            FetchStatus.THROTTLED, f"not tried: host asks to wait {wait_s:.0f} s", retry_after_s=wait_s
        )
    if wait_s > 0:
        await asyncio.sleep(wait_s)
