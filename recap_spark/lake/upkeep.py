"""A schema, or a table that an earlier version made → as this version has it"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from urllib.parse import quote

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recap_spark.errors import ContractError, SettingsError
from recap_spark.settings.values import absolute
from recap_spark.tables import Table

# Some platforms turn them on by default; delta-rs, so DuckDB and polars too, reads no table that has any.
DELETION_VECTORS = "delta.enableDeletionVectors"

_LAKE = "recap_spark.lake"  # property of a schema: the root of the lake whose tables it holds

log = logging.getLogger(__name__)


def own_schema(spark: SparkSession, *, name: str, root: str) -> None:
    """Make the schema called `name` where there is none, and see that its tables are those of this lake.

    Raises SettingsError where it is another lake's: jobs of two lakes would add to the same tables.
    """
    lake = mark_of(absolute(root).rstrip("/") or "/")
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {name} WITH DBPROPERTIES ('{_LAKE}' = '{lake}')")
    owner = _owner(spark, name)
    if owner is None:
        try:
            spark.sql(f"ALTER SCHEMA {name} SET DBPROPERTIES ('{_LAKE}' = '{lake}')")
        except PySparkException as error:  # its owner made it for this job, which may only add tables
            if _owner(spark, name) == lake:  # set, and then Hive found fault with the schema's place
                return
            log.warning("schema %s: it cannot be marked as the lake %s's: %.200s", name, lake, error)
    elif owner != lake:
        raise SettingsError(
            f"lake.namespace: want a schema that no other lake has, found {name}, whose lake is {owner} and "
            f"not {lake}: name another one, or set lake.root to {owner}"
        )


def mark_of(root: str) -> str:
    """A lake's root as a schema's property has it: Spark prints properties as ((key,value), (key,value)), so
    no brackets, and no quotes for SQL, in a path.
    """
    return quote(root, safe="/:")


def _owner(spark: SparkSession, name: str) -> str | None:
    rows = spark.sql(f"DESCRIBE SCHEMA EXTENDED {name}").collect()
    said = next((str(row[1]) for row in rows if row[0] == "Properties"), "")
    _, is_there, after = said.partition(f"({_LAKE},")
    return after.partition(")")[0] if is_there else None


def check_columns(table: Table, *, name: str, held: Collection[str]) -> None:
    """Raise ContractError, with the statement that mends it, where the table called `name` lacks columns."""
    if absent := [field for field in table.schema if field.name not in held]:
        columns = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in absent)
        remedy = f"run `ALTER TABLE {name} ADD COLUMNS ({columns})` first"
        raise ContractError(f"{table.name}: made by an earlier version, without some columns: {remedy}")


def renew_checks(spark: SparkSession, table: Table, *, name: str, properties: Mapping[str, str]) -> None:
    """Let the table take the rows that this version writes: closed sets grow."""
    for check, condition in table.checks.items():
        held = properties.get(f"delta.constraints.{check}")
        if held is not None and held != condition:
            spark.sql(f"ALTER TABLE {name} DROP CONSTRAINT {check}")
            spark.sql(f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK ({condition})")


def drop_deletion_vectors(spark: SparkSession, *, name: str, features: Collection[str]) -> None:
    """Rewrite the files that have some and take the feature from the table: so every engine reads it."""
    if "deletionVectors" in features:
        spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('{DELETION_VECTORS}' = 'false')")
        spark.sql(f"REORG TABLE {name} APPLY (PURGE)")
        spark.sql(f"ALTER TABLE {name} DROP FEATURE deletionVectors")
