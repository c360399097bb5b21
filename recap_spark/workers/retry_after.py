"""A Retry-After header → seconds"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_s(value: str | None) -> float | None:
    """Seconds from now, from either form of Retry-After (RFC 9110, 10.2.3); None if it is neither."""
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
