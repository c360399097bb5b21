"""files that ingest refuses → rejects; and rejects that no longer hold, because a file was mended, removed"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.stages.ingest.files import Survey
from recap_spark.statuses import FILTERED, RejectReason
from recap_spark.tables import REJECTS

# What filters left out is theirs to take back, and a copy of a stored row is held when it is met again.
_STANDING = FILTERED | {RejectReason.REPEATED_UID, RejectReason.CONFLICTING_UID}
_URL_CHARACTERS = "/:@!$&'()*+,;=~-._"


def refused_files(lake: Lake, survey: Survey) -> DataFrame:
    """A row of rejects for every file that could not be read."""
    rows = [(None, str(reason), file, found) for file, reason, found in survey.refused]
    return frame_of(lake.spark, rows, REJECTS.schema)


def is_unsaid(lake: Lake, files: Iterable[str]) -> bool:
    """Whether rejects holds nothing about these files or their rows."""
    _, rejects = lake.as_of_now(REJECTS)
    return rejects.where(F.col("source_file").isin(*_names(files))).isEmpty()


def refuse(lake: Lake, rejects: DataFrame, *, once: Transaction, unsaid: bool) -> None:
    """Add to rejects: by a plain append where it cannot hold the rows yet, else by a merge, which reads the
    table.
    """
    # Delta skips the append where `once` was used: for which rows, by a run that was killed, nobody knows.
    if not unsaid or lake.append(REJECTS, rejects, transaction=once) is None:
        lake.upsert(REJECTS, rejects)


def retract(lake: Lake, rejects: DataFrame, *, files: Iterable[str]) -> None:
    """Remove from rejects what no longer holds of these files or their rows: a file was uploaded again, say,
    or a limit was raised.
    """
    names = _names(files)
    is_of_them = F.col("source_file").isin(*names) & ~F.col("reason").isin(*map(str, _STANDING))
    if not names or (said := lake.read(REJECTS).where(is_of_them)).isEmpty():
        return
    take_back(lake, said, still=rejects)


def take_back(lake: Lake, said: DataFrame, *, still: DataFrame) -> None:
    """Remove those of the rows said in rejects that have no partner by place among those still said.

    What was said of a whole file has no row, and so no partner: the file can be read now.
    """
    place = ["source_file", "source_row"]
    gone = said.select(*place, "reason").join(still.select(*place), on=place, how="left_anti")
    gone = gone.localCheckpoint()  # cut off from the table that it is to be deleted from
    of_files = F.col("source_row").isNull()
    if not gone.where(of_files).isEmpty():
        lake.delete(REJECTS, gone.where(of_files).select("source_file", "reason"))
    if not gone.where(~of_files).isEmpty():
        lake.delete(REJECTS, gone.where(~of_files).select(*place))


def _names(files: Iterable[str]) -> set[str]:
    return {name for file in files for name in (file, _as_metadata_column(file))}


def _as_metadata_column(file: str) -> str:
    """What Spark's `_metadata.file_path` calls a file that its listings call `file`."""
    scheme, colon, path = file.partition(":")
    return f"{scheme}{colon}{quote(path, safe=_URL_CHARACTERS)}"
