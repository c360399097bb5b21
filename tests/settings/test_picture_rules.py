from __future__ import annotations

from dataclasses import replace

import pytest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 0}, "image_size: want at least 1, found 0"),
        ({"decode_processes": 0}, "decode_processes: want at least 1, found 0"),
        ({"max_aspect_ratio": 0.5}, "max_aspect_ratio: want at least 1, found 0.5"),
        ({"encode_format": "jpg", "encode_quality": 101}, "encode_quality: want 1 to 100 for jpg, found 101"),
        ({"encode_format": "png", "encode_quality": 95}, "encode_quality: want 0 to 9 for png, found 95"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_with_what_was_wanted(rules, changes, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        replace(rules, **changes)
