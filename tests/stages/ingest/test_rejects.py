"""What ingest refuses is in rejects once, and none of it is lost to a run that was killed."""

import pytest

from recap_spark.lake.lake import Lake, Transaction
from recap_spark.stages.ingest.rejects import is_unsaid, refuse
from recap_spark.statuses import RejectReason
from recap_spark.tables import REJECTS

pytestmark = pytest.mark.spark


def test_rows_of_other_files_are_not_lost_to_the_mark_that_a_killed_run_left(lake: Lake) -> None:
    def refuse_row(file: str) -> None:
        row = (0, str(RejectReason.NULL_UID), file, "{}")
        refused = lake.spark.createDataFrame([row], REJECTS.schema)
        refuse(lake, refused, once=Transaction("ingest", 3), unsaid=is_unsaid(lake, [file]))

    lake.create(REJECTS)
    for file in ("file:/killed.parquet", "file:/other.parquet", "file:/killed.parquet"):
        refuse_row(file)
    files = [row["source_file"] for row in lake.read(REJECTS).collect()]
    assert sorted(files) == ["file:/killed.parquet", "file:/other.parquet"]
