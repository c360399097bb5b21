"""One url under way: the clock it runs against, its attempts, its pauses"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import PASSING_FAILURES, FetchStatus
from recap_spark.workers.fetching.failures import FetchError

T = TypeVar("T")

# A host that is down stays so for longer than a url's deadline: that waits for another run of the stage.
_WORTH_A_RETRY_NOW = PASSING_FAILURES - {FetchStatus.HOST_DOWN}


@dataclass
class UrlAttempts:
    """One url under way: its attempts so far, and its deadline."""

    clock: asyncio.Timeout
    attempts: int = 0


@asynccontextmanager
async def off_the_clock(clock: asyncio.Timeout) -> AsyncIterator[None]:
    """Stop a url's deadline while it waits for our own queues, which are not the host's fault."""
    loop = asyncio.get_running_loop()
    left = left_s(clock)
    clock.reschedule(None)
    try:
        yield
    finally:
        clock.reschedule(loop.time() + left)


def left_s(clock: asyncio.Timeout) -> float:
    """Seconds until the deadline."""
    deadline = clock.when()
    assert deadline is not None
    return deadline - asyncio.get_running_loop().time()


async def persistently(
    attempt: Callable[[], Awaitable[T]], *, url_attempts: UrlAttempts, limits: FetchLimits
) -> T:
    """Repeat an attempt after failures that may pass, as long as the deadline leaves time for the pause."""
    pause_s = limits.backoff_s
    earlier: FetchError | None = None
    while True:
        try:
            return await attempt()
        except FetchError as error:
            if earlier is not None and error.status is FetchStatus.HOST_DOWN:
                raise earlier from error  # what this url saw says more than what its neighbours saw
            wait_s = max(pause_s * random.uniform(0.5, 1.5), error.retry_after_s or 0.0)
            hopeless = error.lasting or error.status not in _WORTH_A_RETRY_NOW
            if hopeless or url_attempts.attempts >= limits.attempts or wait_s >= left_s(url_attempts.clock):
                raise
            earlier = error
        await asyncio.sleep(wait_s)
        pause_s *= 2
