"""A hash as metadata spells it → the hash, or nothing"""

from __future__ import annotations

import re

_SHA256 = re.compile(r"[0-9a-f]{64}")


def known_sha256(text: str | None) -> str | None:
    """64 lower-case hexadecimal digits, whatever the case and blanks around them; None for anything else."""
    spelled = (text or "").strip().lower()
    return spelled if _SHA256.fullmatch(spelled) else None
