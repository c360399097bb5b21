"""What metadata says a picture's sha256 is → the hash, or nothing"""

from __future__ import annotations

import re

BLANKS = " \t\r\n"
_HASH = re.compile(r"[0-9a-f]{64}")


def known_sha256(text: str | None) -> str | None:
    """64 hexadecimal digits in lower case, whatever blanks and case they came in.

    None for anything else, an empty text or an md5 among it: such a picture's hash is unknown, and no bytes
    can differ from it.
    """
    folded = (text or "").strip(BLANKS).lower()
    return folded if _HASH.fullmatch(folded) else None
