"""A decoder has limits that some picture can keep."""

from __future__ import annotations

from dataclasses import replace

import pytest


@pytest.mark.parametrize("name", ["largest_pixels", "memory_bytes", "cpu_s"])
def test_a_limit_that_no_picture_could_keep_is_refused(decode, name):
    with pytest.raises(ValueError, match=f"^{name}: want more than 0, found 0$"):
        replace(decode, **{name: 0})
