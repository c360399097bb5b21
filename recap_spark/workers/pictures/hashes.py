"""The hash that is stored beside sha256"""

from __future__ import annotations

import hashlib

from recap_spark.settings.fetch_limits import Hash

_BESIDE_SHA256 = ("md5", "sha512")


def hash_columns(body: bytes | None, *, compute_hash: Hash) -> dict[str, str | None]:
    """Columns `md5` and `sha512` of the downloaded body, each null unless the settings ask for it."""
    columns: dict[str, str | None] = dict.fromkeys(_BESIDE_SHA256)
    if body is not None and compute_hash in columns:
        columns[compute_hash] = hashlib.new(compute_hash, body, usedforsecurity=False).hexdigest()
    return columns
