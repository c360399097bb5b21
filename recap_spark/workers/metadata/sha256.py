"""What metadata says a picture's sha256 is → the hash, or nothing"""

from __future__ import annotations

import re

BLANKS = " \t\r\n"
MALFORMED = "sha256_malformed"
"""The mark of a row or a picture that goes on all the same, as one whose hash nobody knows."""

_HASH = re.compile(r"[0-9a-f]{64}")


def known_sha256(text: str | None) -> str | None:
    """64 hexadecimal digits, in lower case; capitals and blanks around them are accepted.

    None for anything else, such as an empty text or an md5: the hash of such a picture is unknown, so no
    bytes are refused for it.
    """
    folded = (text or "").strip(BLANKS).lower()
    return folded if _HASH.fullmatch(folded) else None


def is_malformed(text: str | None) -> bool:
    """Whether it says something, which is no sha256."""
    return known_sha256(text) is None and bool((text or "").strip(BLANKS))
