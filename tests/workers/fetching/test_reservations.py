from __future__ import annotations

from dataclasses import replace

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.failures import FetchError
from recap_spark.workers.fetching.reservations import directives_for, refuse_reserved


@pytest.mark.parametrize(
    ("header", "directives"),
    [
        ("noai", {"noai"}),
        (" NoAI , NOINDEX ", {"noai", "noindex"}),
        ("", set()),
        (",,", set()),
        ("none", {"none", "noindex", "nofollow"}),
        # A directive's value is no user agent.
        ("max-snippet: 5, noai", {"max-snippet", "noai"}),
        ("max-image-preview:large, noimageai", {"max-image-preview", "noimageai"}),
        # Dates bring commas and colons of their own.
        (
            "unavailable_after: Wed, 03 Dec 2025 13:09:53 GMT, noindex",
            {"unavailable_after", "03 dec 2025 13", "noindex"},
        ),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST, noai", {"unavailable_after", "noai"}),
        ("unavailable_after: 2025-12-03T13:09:53Z, noai", {"unavailable_after", "noai"}),
        # Groups for agents.
        ("recap-spark: noai", {"noai"}),
        ("Recap-Spark: noai, noindex", {"noai", "noindex"}),
        ("otherbot: noai", set()),
        ("otherbot: noai, noindex", set()),
        ("otherbot: noindex, recap-spark: noai", {"noai"}),
        ("recap-spark: noai, otherbot: noindex", {"noai"}),
        ("noindex, otherbot: noai", {"noindex"}),
        ("otherbot: noai, *: noindex", {"noindex"}),
        ("recap-spark: max-snippet: 5, noai", {"max-snippet", "noai"}),
        ("otherbot: unavailable_after: Wed, 03 Dec 2025 13:09:53 GMT, noai", set()),
    ],
)
def test_directives_are_those_for_everyone_and_for_our_own_name(header, directives):
    # What remains of a date is harmless: nobody disallows it.
    assert {word for word in directives_for([header], agent="recap-spark") if word[0].isalpha()} == {
        word for word in directives if word[0].isalpha()
    }


def test_several_headers_add_up_and_a_group_ends_with_its_header():
    assert directives_for(["otherbot: nofollow", "noai"], agent="recap-spark") == {"noai"}


def test_noml_and_tdm_reservation_count_as_reserved_and_noai_as_robots(limits):
    assert _refusal({"X-Robots-Tag": "noai"}, limits) == FetchStatus.ROBOTS
    assert _refusal({"X-Robots-Tag": "noml"}, limits) == FetchStatus.RESERVED
    assert _refusal({"TDM-Reservation": "1"}, limits) == FetchStatus.RESERVED
    assert _refusal({"tdm-reservation": " 1 "}, limits) == FetchStatus.RESERVED
    assert _refusal({"tdm-reservation": "0"}, limits) is None
    assert _refusal({"X-Robots-Tag": "noarchive"}, limits) is None


def test_what_is_not_disallowed_in_the_settings_is_not_refused(limits):
    lenient = replace(limits, disallowed_directives=frozenset(), tdm_reservation="ignore")
    assert _refusal({"X-Robots-Tag": "noai, noml", "TDM-Reservation": "1"}, lenient) is None


def _refusal(headers, limits):
    try:
        refuse_reserved(CIMultiDictProxy(CIMultiDict(headers)), limits=limits)
    except FetchError as error:
        return error.status
    return None
