"""Uids for tests' rows: spread over all units, as the published ones are"""

import hashlib


def uid_of(name: object) -> str:
    """Always the same one for a name."""
    return hashlib.md5(str(name).encode()).hexdigest()
