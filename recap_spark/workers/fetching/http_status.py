"""A reply's status code → nothing, or why there is no picture in it"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.failures import FetchError

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
    """Raise for any code but 200, with the wait that a 429 or 503 asks for, cut to the longest."""
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


def retry_after_s(value: str | None) -> float | None:
    """Seconds, from either of the header's two forms (RFC 9110, 10.2.3); None if it is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:12])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for a year or a zone that no date can have
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
