"""rows that claim the same uid → which one is kept, by a rule that knows no order of files, folders or runs

The kept row is the one with the smallest hash of its published content; among equal ones the one already
stored, then the first by file name and row.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recap_spark.statuses import RejectReason
from recap_spark.tables import SAMPLES

_CONTENT = tuple(name for name in SAMPLES.schema.names if name not in {"uid", "source_file", "source_row"})


class Outcome(StrEnum):
    """What becomes of one incoming row, or of a stored one that an incoming row displaces."""

    ADDED = "added"
    HELD = "held"  # this very content is stored already
    REPEATED = RejectReason.REPEATED_UID
    CONFLICTING = RejectReason.CONFLICTING_UID
    DISPLACED = "displaced"  # stored, and now refused for a row that the rule prefers


def content_hash() -> Column:
    """A hash of all that was published about a sample, without the place it was read from."""
    return hash_of(*map(F.col, _CONTENT))


def hash_of(*values: Column) -> Column:
    """One hash of several values; it is never null, and null has a hash of its own."""
    # As text, since the hash of values passes over nulls and empty lists: no faces is not "faces unknown".
    return F.xxhash64(*(F.coalesce(value.cast("string"), F.lit("\0")) for value in values))


def uid_hash() -> Column:
    """A short hash, used where all uids are compared: a quarter of a uid's bytes to shuffle and broadcast."""
    return F.xxhash64("uid")


def contested_hashes(rows: DataFrame, stored: DataFrame) -> DataFrame:
    """`uid_hash` of the uids that more than one row claims, stored rows included.

    Two uids with the same hash are returned as well; settled one by one, each turns out to have one claim.
    """
    claims = rows.select(uid_hash().alias("uid_hash")).union(stored.select(uid_hash()))
    # Grouping in Spark would build a hash table of them all, twice, to find the few.
    return claims.repartition("uid_hash").mapInArrow(_repeated, "uid_hash bigint")


def _repeated(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The hashes that occur more than once among all of a partition's, 8 bytes each while they are sorted."""
    hashes = [batch.column(0).to_numpy() for batch in batches]
    if not hashes:
        return
    in_order = np.sort(np.concatenate(hashes))
    repeated = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    yield pa.RecordBatch.from_arrays([pa.array(repeated)], names=["uid_hash"])


def settle(incoming: DataFrame, stored: DataFrame) -> DataFrame:
    """`uid, source_file, source_row, outcome` of every contested row; a stored row appears only where it is
    displaced.
    """
    place = ("uid", "source_file", "source_row", content_hash().alias("content"))
    claims = incoming.select(*place, F.lit(False).alias("is_stored")).union(
        stored.select(*place, F.lit(True))
    )
    among = Window.partitionBy("uid")
    at = F.struct("source_file", "source_row")
    best_first = among.orderBy("content", F.col("is_stored").desc(), "source_file", "source_row")
    ranked = claims.select(
        "*",
        F.row_number().over(best_first).alias("rank"),
        F.min("content").over(among).alias("kept_content"),
        F.max(F.when(F.col("is_stored"), F.col("content"))).over(among).alias("stored_content"),
        F.max(F.when(F.col("is_stored"), at)).over(among).alias("stored_at"),
    )
    wins = F.col("rank") == 1
    stored_wins = F.col("stored_content") == F.col("kept_content")
    # A stored row that loses is refused as itself, so its own row of the files needs no second answer.
    is_held = (F.col("content") == F.col("stored_content")) & (stored_wins | (at == F.col("stored_at")))
    outcome = (
        F.when(F.col("is_stored") & wins, F.lit(None))
        .when(F.col("is_stored"), str(Outcome.DISPLACED))
        .when(is_held, str(Outcome.HELD))
        .when(wins, str(Outcome.ADDED))
        .when(F.col("content") == F.col("kept_content"), str(Outcome.REPEATED))
        .otherwise(str(Outcome.CONFLICTING))
    )
    settled = ranked.select("uid", "source_file", "source_row", outcome.alias("outcome"))
    return settled.where(F.col("outcome").isNotNull())
