"""A notebook's names → the lake of the platform that it is on"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from recap_spark.errors import InputError, SettingsError
from recap_spark.lake.lake import Lake
from recap_spark.lake.statements import quoted
from recap_spark.machine.platforms import Platform, default_master, is_local, marked_platform
from recap_spark.machine.session import start
from recap_spark.settings.loading import load
from recap_spark.settings.schema import Settings

_WIDGET = "namespace"
_LAPTOP = ("conf/base.yml", "conf/laptop.yml")
_DATABRICKS = ("databricks",)
_ANY_CLUSTER = ("base", "cluster")


def open_lake(names: Mapping[str, Any]) -> Lake:
    """The lake, and its schema made the session's own, so that SQL names tables alone.

    `names` are the notebook's, `globals()`: a platform leaves its session there as `spark`, Databricks its
    widgets as `dbutils`. Settings are the files of RECAP_CONF, as for the command line, else the platform's;
    its schema is RECAP_NAMESPACE's where that is set, and a widget `namespace` on Databricks has the last
    word. Paths begin at the folder that has conf/, if one above the notebook has it.

    Raises SettingsError where no schema is named, and as `load` does, InputError where it is not there.
    """
    _enter_folder_of_conf()
    settings = _chosen(names.get("dbutils"))
    namespace = settings.lake.namespace
    if namespace is None:
        raise SettingsError("lake.namespace: want a schema, for SQL that names tables alone, found null")
    spark = names.get("spark") or SparkSession.getActiveSession() or start(settings.session, settings.lake)
    if not spark.catalog.databaseExists(namespace):
        raise InputError(f"want the schema {namespace}, found none: run `recap-spark ingest` first")
    spark.sql(f"USE {quoted(namespace)}")
    return Lake(spark, settings.lake)


def _enter_folder_of_conf() -> None:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "base.yml").is_file():
            os.chdir(folder)
            return


def _chosen(utilities: Any) -> Settings:
    """The settings, with the schema that the environment or Databricks' widget names."""
    named = os.environ.get("RECAP_CONF")
    files = named.split(os.pathsep) if named else _files_of_the_platform()
    namespace = os.environ.get("RECAP_NAMESPACE")
    settings = _loaded(files, namespace)
    if utilities is None:
        return settings
    utilities.widgets.text(_WIDGET, settings.lake.namespace or "", "catalog.schema")
    return _loaded(files, utilities.widgets.get(_WIDGET))


def _files_of_the_platform() -> tuple[str, ...]:
    marked = marked_platform()
    if marked is Platform.DATABRICKS:
        return _DATABRICKS
    return _LAPTOP if marked is None and is_local(default_master()) else _ANY_CLUSTER


def _loaded(files: tuple[str, ...] | list[str], namespace: str | None) -> Settings:
    changes = [f"lake.namespace={namespace}"] if namespace else []
    return load(*map(Path, files), changes=changes)
