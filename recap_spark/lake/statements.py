"""A table's contract → the SQL that makes it and changes its rows

In SQL alone, because a platform may bring Delta's JARs without its Python package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyspark.sql import types as T

from recap_spark.tables import Table


def create_table(table: Table, *, name: str, properties: Mapping[str, str]) -> str:
    """The statement that makes the table where it is not there yet, clustered by its key where that is
    indexed.
    """
    columns = ", ".join(_column(field) for field in table.schema)
    kept = {"delta.dataSkippingStatsColumns": ",".join(table.indexed), **properties}
    # As properties of the new table: ALTER TABLE would cost a commit and a scan for each.
    kept |= {f"delta.constraints.{check}": condition for check, condition in table.checks.items()}
    listed = ", ".join(f"{literal(key)} = {literal(value)}" for key, value in kept.items())
    cluster = f" CLUSTER BY (`{table.key[0]}`)" if table.key[0] in table.indexed else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {name} ({columns}) USING delta{cluster} "
        f"COMMENT {literal(table.comment)} TBLPROPERTIES ({listed})"
    )


def merge(*, into: str, rows: str, on: str, then: str) -> str:
    """The statement that merges the view `rows`, called `new`, into the table, called `kept`."""
    return f"MERGE INTO {into} AS kept USING {rows} AS new ON {on} {then}"


def same(columns: Iterable[str], operator: str) -> str:
    """Holds where a row of `kept` has the values of one of `new`, by `=` or by `<=>`, under which null is
    null.
    """
    return " AND ".join(f"kept.`{column}` {operator} new.`{column}`" for column in columns)


def update(values: Mapping[str, str]) -> str:
    """What MERGE does with a row that matches: set columns to SQL over `kept` and `new`."""
    listed = ", ".join(f"`{column}` = {value}" for column, value in values.items())
    return f"WHEN MATCHED THEN UPDATE SET {listed}"


def quoted(name: str) -> str:
    """The parts of `catalog.schema`, or of a longer name, each as an identifier of SQL."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split("."))


def literal(value: str) -> str:
    """A string in SQL, for what keeps its text: nothing can be bound later to a table's or a view's own."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def create_view(name: str, select: str, *, columns: Mapping[str, str], comment: str, kept: bool) -> str:
    """The statement that makes or replaces a view whose columns, in its order, are these, each with what it
    says of itself; `kept` views outlive the session.
    """
    said = ", ".join(f"`{column}` COMMENT {literal(text)}" for column, text in columns.items())
    kind = "VIEW" if kept else "TEMPORARY VIEW"
    return f"CREATE OR REPLACE {kind} {name} ({said}) COMMENT {literal(comment)} AS {select}"


def _column(field: T.StructField) -> str:
    null = "" if field.nullable else " NOT NULL"
    return (
        f"`{field.name}` {field.dataType.simpleString()}{null} COMMENT {literal(field.metadata['comment'])}"
    )
