"""The mixing draw: one number in [0, 1) for each (uid, seed, epoch), the same in Python, Spark and every SQL
engine.

The number is the first 52 bits of md5("uid:seed:epoch") over 2^52, exact in a double. md5 and not a faster
hash, because DuckDB, Postgres, BigQuery and Trino have it too: the caption that a trainer saw can be found
again anywhere. A sample gets its original caption where the number is below p, so raising p keeps every
earlier pick.
"""

from __future__ import annotations

import hashlib

_HEX_DIGITS = 13
_RANGE = 16**_HEX_DIGITS


def draw(uid: str, *, seed: int, epoch: int) -> float:
    """The number drawn for one sample, in [0, 1)."""
    digest = hashlib.md5(f"{uid}:{seed}:{epoch}".encode(), usedforsecurity=False).hexdigest()
    return float(int(digest[:_HEX_DIGITS], 16) / _RANGE)


def draw_sql(uid: str, *, seed: str, epoch: str) -> str:
    """The same number as a Spark SQL expression over three SQL expressions."""
    digest = f"md5(concat_ws(':', {uid}, {seed}, {epoch}))"
    return f"(CAST(conv(substring({digest}, 1, {_HEX_DIGITS}), 16, 10) AS BIGINT) / {_RANGE}D)"


def keeps_original(uid: str, *, p: float, seed: int, epoch: int) -> bool:
    """True where the sample gets its original caption; p is the probability of that (Recap-DataComp-1B,
    section 5).
    """
    return draw(uid, seed=seed, epoch=epoch) < p
