"""A table that an earlier version made → the table as its contract has it now"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyspark.sql import SparkSession

from recap_spark.errors import ContractError
from recap_spark.tables import Table

# Some platforms turn them on by default; delta-rs, so DuckDB and polars too, reads no table that has any.
DELETION_VECTORS = "delta.enableDeletionVectors"


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
