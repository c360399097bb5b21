"""A reply's headers → whether its owner reserves this use"""

from __future__ import annotations

import re
from collections.abc import Iterable

from multidict import CIMultiDictProxy

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.failures import FetchError

# The directives that carry a value after a colon, which looks just like a user agent before one.
_VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
_AGENT = re.compile(r"\*|[A-Za-z][A-Za-z0-9_.\-]*")


def refuse_reserved(headers: CIMultiDictProxy[str], *, limits: FetchLimits) -> None:
    """Raise if the headers keep this body from being used for training."""
    if limits.tdm_reservation == "refuse" and headers.get("TDM-Reservation", "").strip() == "1":
        raise FetchError(FetchStatus.RESERVED, "tdm-reservation: 1")
    directives = directives_for(headers.getall("X-Robots-Tag", ()), agent=limits.agent_token)
    against = sorted(directives & limits.disallowed_directives)
    if against:
        status = FetchStatus.RESERVED if against == ["noml"] else FetchStatus.ROBOTS
        raise FetchError(status, f"X-Robots-Tag: {', '.join(against)}")


def directives_for(values: Iterable[str], *, agent: str) -> frozenset[str]:
    """The X-Robots-Tag directives that concern an agent: those for all, and those of its own groups.

    One header may hold several groups, `bot: a, b, otherbot: c`; a group lasts until the next agent's name.
    """
    return frozenset(
        directive for value in values for directive in _of_one_header(value, agent=agent.lower())
    )


def _of_one_header(value: str, *, agent: str) -> Iterable[str]:
    concerns_us = True
    for part in value.split(","):
        directive, colon, rest = (piece.strip() for piece in part.partition(":"))
        # A date's pieces, "03 Dec 2025 13:09:53 GMT", have colons too, but an agent has no spaces.
        if colon and directive.lower() not in _VALUED and _AGENT.fullmatch(directive):
            concerns_us = directive.lower() in ("*", agent)
            directive = rest.partition(":")[0].strip()
        if concerns_us and directive:
            yield directive.lower()
            if directive.lower() == "none":  # its definition
                yield from ("noindex", "nofollow")
