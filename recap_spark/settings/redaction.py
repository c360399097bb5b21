"""Which settings may open doors, and how a value is shown without what does"""

from __future__ import annotations

import re

# "tokens" are a length, a "token" opens doors.
_SECRET = re.compile(
    r"token(?!s)|secret|passw|credential|(access|account|private|storage)[._]?key|\bsas\b|ConnectionURL",
    re.IGNORECASE,
)
_IN_QUERY = re.compile(r"((?:password|pwd|token|sig|signature|secret|credential)=)[^&;\s]+", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def is_secret(path: str) -> bool:
    """Whether a setting's name speaks of a secret."""
    return _SECRET.search(path) is not None


def public(value: str) -> str:
    """A value without the logins and signatures that URLs carry."""
    return _IN_QUERY.sub(r"\1…", _LOGIN.sub("…@", value))
