from __future__ import annotations

import pytest

from recap_spark.workers.retry_after import retry_after_s


def test_a_wish_to_wait_comes_as_seconds_or_as_a_date():
    assert retry_after_s("3") == 3.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("Fri, 31 Dec 9999 23:59:59 GMT") > 1e9


@pytest.mark.parametrize(
    "value", [None, "", "soon", "-3", "Wed, 21 Oct 99999 07:28:00 GMT", "1 Jan 1 0:0 +9999999"]
)
def test_what_is_no_wish_is_none(value):
    assert retry_after_s(value) is None
