"""A reply's status code → nothing, or why there is no picture in it"""

from __future__ import annotations

import aiohttp

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.failures import FetchError
from recap_spark.workers.retry_after import retry_after_s

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_STATUSES = {
    401: FetchStatus.FORBIDDEN,
    403: FetchStatus.FORBIDDEN,
    404: FetchStatus.GONE,
    410: FetchStatus.GONE,
    429: FetchStatus.THROTTLED,
    451: FetchStatus.FORBIDDEN,
}


def refuse_status(reply: aiohttp.ClientResponse, *, longest_wait_s: float) -> None:
    """Raise for any code but 200; for 429 and 503 with the wait that the host asks for, at most the longest
    allowed.
    """
    code = reply.status
    if code == 200:
        return
    status = _STATUSES.get(code)
    if status is None:
        by_hundreds = {4: FetchStatus.HTTP_4XX, 5: FetchStatus.HTTP_5XX}
        status = by_hundreds.get(code // 100, FetchStatus.HTTP_OTHER)
    wait_s = retry_after_s(reply.headers.get("Retry-After")) if code in (429, 503) else None
    bounded_s = None if wait_s is None else min(wait_s, longest_wait_s)
    raise FetchError(status, f"HTTP {code}", retry_after_s=bounded_s)
