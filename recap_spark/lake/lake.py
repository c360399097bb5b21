"""The only module that reads or writes Delta, by SQL and data frames: a platform's JARs are all it needs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, SparkSession

from recap_spark.errors import InputError, PlatformError
from recap_spark.lake import upkeep
from recap_spark.lake.frames import frame_of
from recap_spark.lake.spark_errors import SPARK_ERRORS, condition_of, is_overtaken
from recap_spark.lake.statements import create_table, create_view, merge, quoted, same, update
from recap_spark.settings.schema import LakeSettings
from recap_spark.tables import Table

_RECENT_COMMITS = 100  # more than other jobs commit to one table while this one looks
_TRIES = 10  # of a write that other jobs' commits can overtake; each takes seconds, so pauses add nothing
_KEEPS_ROWS = ("OPTIMIZE", "REORG", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ADD CONSTRAINT")
_MADE_AT_ONCE = 4  # tables: each waits for the catalog and for a commit of its own


@dataclass(frozen=True)
class Transaction:
    """Names one write for good: Delta skips a second write of the same application at the same or a lower
    version.
    """

    application: str
    version: int


@dataclass(frozen=True)
class Lake:
    """The tables of a lake: `catalog.schema.table` where it has a namespace, else folders under its root."""

    spark: SparkSession
    settings: LakeSettings

    def create(self, *tables: Table) -> None:
        """Make those that are not there yet, as `own_schema` and `check_columns` allow."""
        if self.settings.namespace:
            upkeep.own_schema(self.spark, name=quoted(self.settings.namespace), root=self.settings.root)
        with ThreadPoolExecutor(_MADE_AT_ONCE) as pool:
            list(pool.map(self._make, tables))

    def holds(self, table: Table) -> bool:
        try:
            return self.spark.catalog.tableExists(self.name(table.name))
        except SPARK_ERRORS as error:  # of a folder that is none of Delta's
            if condition_of(error) == "DELTA_MISSING_DELTA_TABLE":
                return False
            raise

    def name(self, relation: str) -> str:
        """What SQL calls a table, view or function of this lake."""
        if self.settings.namespace:
            return f"{quoted(self.settings.namespace)}.`{relation}`"
        return f"delta.`{self.settings.root}/{relation}`"

    def read(self, table: Table) -> DataFrame:
        """The table as it is now. Raises InputError where no stage has made it yet."""
        self._held(table)
        return self.spark.read.table(self.name(table.name))

    def read_at(self, table: Table, version: int) -> DataFrame:
        """The table as it was at a version: what a job that others write beside goes by."""
        return self.spark.sql(f"SELECT * FROM {self.name(table.name)} VERSION AS OF {int(version)}")

    def as_of_now(self, table: Table) -> tuple[int, DataFrame]:
        """The table's last committed version, and the table as it was at it."""
        (last,) = self._history(self._held(table), 1)
        version = int(last["version"])
        if last["operation"] == "CREATE TABLE":  # no rows: to learn that from its log takes Delta a second
            return version, frame_of(self.spark, [], table.schema)
        return version, self.read_at(table, version)

    def version(self, table: Table) -> int:
        """The table's last committed version. Raises InputError where no stage has made it yet."""
        return int(self._history(self._held(table), 1)[0]["version"])

    def rows_version(self, table: Table) -> int:
        """The last version whose commit changed rows, or the oldest of the recent ones where none did: to
        compact a table, or to claim work and find none, makes no other rows.
        """
        commits = self._history(self._held(table), _RECENT_COMMITS)
        return next(
            (int(commit["version"]) for commit in commits if _changes_rows(commit)),
            int(commits[-1]["version"]),
        )

    def identity(self, table: Table) -> str:
        """Delta's own id of the table: another one after it is dropped and made again."""
        return str(self._detail(self._held(table))["id"])

    def append(self, table: Table, frame: DataFrame, *, transaction: Transaction) -> int | None:
        """Add rows exactly once for this transaction.

        Returns the rows added, None where the table has this transaction already: Delta skips such a write
        without a word, so the commit is looked for by a mark of its own.
        """
        mark = uuid.uuid4().hex
        options = {
            "txnAppId": transaction.application,
            "txnVersion": str(transaction.version),
            "userMetadata": mark,
        }
        writer = table.conform(frame).write.format("delta").mode("append").options(**options)
        if table.blob:
            writer = writer.option("compression", "uncompressed")
        try:
            if self.settings.namespace:
                writer.saveAsTable(self.name(table.name))
            else:
                writer.save(self._path(table))
        except SPARK_ERRORS as error:
            if condition_of(error).startswith("DELTA_CONCURRENT_TRANSACTION"):
                return None
            raise
        return self._rows_committed(table, mark)

    def claim(self, table: Table, application: str) -> Transaction:
        """The right to make the application's next commit, until somebody else claims it.

        The claim is an empty commit of its own, numbered by the clock: what an earlier claimant writes after
        it comes with a lower number, which Delta skips. So two jobs that do the same work add it once, if
        each claims before it looks at what there is. Raises PlatformError where an earlier claim is of the
        future.
        """
        nothing = frame_of(self.spark, [], table.schema)
        for _ in range(_TRIES):
            now_us = time.time_ns() // 1000
            if self.append(table, nothing, transaction=Transaction(application, now_us)) is not None:
                return Transaction(application, now_us + 1)
        raise PlatformError(
            f"{table.name}: want the clocks of all machines that run jobs to agree, found a claim on "
            f"{application} of the future"
        )

    def _rows_committed(self, table: Table, mark: str) -> int | None:
        commits = self._history(self.name(table.name), _RECENT_COMMITS)
        marked = (commit["operationMetrics"] for commit in commits if commit["userMetadata"] == mark)
        return next((int(metrics["numOutputRows"]) for metrics in marked), None)

    def keeps_functions(self) -> bool:
        """Whether views and functions outlive the session: they need a catalog to be kept in."""
        return self.settings.namespace is not None

    def define_view(self, name: str, select: str, *, columns: Mapping[str, str], comment: str) -> None:
        """Make or replace a view; it ends with the session where no catalog keeps it. `columns` are its own,
        in its order, each with what it holds.
        """
        kept = self.keeps_functions()
        called = self.name(name) if kept else quoted(name)
        self.spark.sql(create_view(called, select, columns=columns, comment=comment, kept=kept))

    def define_function(self, name: str, definition: str) -> None:
        """Make or replace a SQL table function, from its parameters on. Only where `keeps_functions`."""
        self.spark.sql(f"CREATE OR REPLACE FUNCTION {self.name(name)} {definition}")

    def upsert(self, table: Table, frame: DataFrame) -> None:
        """Merge on the table's key, so writing the same rows twice changes nothing."""
        then = "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        self._merge(table, table.conform(frame), on=same(table.key, "<=>"), then=then)

    def revise(self, table: Table, rows: DataFrame, *, still: str, values: Mapping[str, str]) -> int:
        """Set columns of the rows that have a partner in `rows` by key, where `still` holds; add none.

        `still` and `values` are SQL over `kept`, the table's row, and `new`, its partner. Rows that another
        job changed first no longer meet `still` and stay as that job left them. `rows` may be computed more
        than once: a caller for whom that is dear persists them. Returns the rows changed.
        """
        on = f"{same(table.key, '=')} AND {still}"
        tries = 0
        while True:
            try:
                return int(self._merge(table, rows, on=on, then=update(values))["num_updated_rows"])
            except SPARK_ERRORS as error:
                tries += 1
                if tries == _TRIES or not is_overtaken(error):
                    raise

    def delete(self, table: Table, keys: DataFrame) -> None:
        """Remove the rows whose columns equal those of some row of `keys`, whose nulls Spark drops itself."""
        self._merge(table, keys.distinct(), on=same(keys.columns, "="), then="WHEN MATCHED THEN DELETE")

    def compact(self, table: Table) -> None:
        """Rewrite small files into large ones, clustered by the table's key.

        One that an earlier version made with deletion vectors is rewritten without them.
        """
        name = self.name(table.name)
        self.spark.sql(f"OPTIMIZE {name}")
        features = self._detail(name)["tableFeatures"] or ()
        upkeep.drop_deletion_vectors(self.spark, name=name, features=features)

    def _make(self, table: Table) -> None:
        if not self.holds(table):
            self._create(table)
            return
        name = self.name(table.name)
        upkeep.check_columns(table, name=name, held=self.spark.read.table(name).columns)
        upkeep.renew_checks(self.spark, table, name=name, properties=self._detail(name)["properties"])

    def _create(self, table: Table) -> None:
        properties = {upkeep.DELETION_VECTORS: "false"}
        self.spark.sql(create_table(table, name=self.name(table.name), properties=properties))

    def _merge(self, table: Table, rows: DataFrame, *, on: str, then: str) -> Row:
        with _as_view(rows) as view:
            statement = merge(into=self.name(table.name), rows=view, on=on, then=then)
            return rows.sparkSession.sql(statement).collect()[0]

    def _held(self, table: Table) -> str:
        """The table's name. Raises InputError where no stage has made it yet."""
        name = self.name(table.name)
        if not self.holds(table):
            raise InputError(f"want the table {name}, found none: run `recap-spark {table.made_by}` first")
        return name

    def _history(self, name: str, commits: int) -> list[Row]:
        """The last commits, newest first."""
        return self.spark.sql(f"DESCRIBE HISTORY {name} LIMIT {commits}").collect()

    def _detail(self, name: str) -> Row:
        return self.spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]

    def _path(self, table: Table) -> str:
        return f"{self.settings.root}/{table.name}"


def _changes_rows(commit: Row) -> bool:
    is_empty: bool = commit["operation"] == "WRITE" and commit["operationMetrics"].get("numOutputRows") == "0"
    return commit["operation"] not in _KEEPS_ROWS and not is_empty


@contextmanager
def _as_view(rows: DataFrame) -> Iterator[str]:
    """Meanwhile SQL knows the rows by this name."""
    name = f"recap_rows_{uuid.uuid4().hex}"
    rows.createTempView(name)
    try:
        yield name
    finally:
        rows.sparkSession.catalog.dropTempView(name)
