"""Where a session that is asked for runs: on this machine alone, or on a cluster, and whose

A laptop's session on a machine that belongs to a cluster would use one machine and say nothing of it: it is
an error.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import pyspark

from recap_spark.errors import PlatformError
from recap_spark.lake.connect import active_session
from recap_spark.settings.schema import SessionSettings

_MASTER = "spark.master"


class Platform(StrEnum):
    LAPTOP = "laptop"
    CLUSTER = "cluster"  # by a master that conf or spark-defaults.conf names
    DATABRICKS = "databricks"
    EMR = "emr"
    DATAPROC = "dataproc"
    SUBMITTED = "spark-submit"
    RUNNING = "session that is running"


def platform(settings: SessionSettings) -> Platform:
    """Where a session with these settings runs: asked before it starts, since then there is one running.

    Raises PlatformError where it would be one of this machine alone, and the machine is a cluster's, or
    nothing says that it is none.
    """
    marked = marked_platform()
    if marked is Platform.DATABRICKS or _is_running():
        return marked or Platform.RUNNING
    # spark-submit starts the JVM first and tells Python its port.
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return marked or Platform.SUBMITTED
    named, by_defaults = named_master(settings), default_master()
    if named is None and not marked:
        raise PlatformError(
            "session.master: want one, such as --conf laptop has, or a start by spark-submit; found null, "
            "and none in Spark's own settings"
        )
    if not is_local(named):
        return marked or Platform.CLUSTER
    if marked or not is_local(by_defaults):
        cluster = f"{marked}'s marks" if marked else f"{_MASTER} {by_defaults} in {_defaults_file()}"
        raise PlatformError(
            f"want a session of the cluster, found {cluster} and session.master {named or 'null'}: start by "
            "spark-submit jobs/recap_spark.py, or name it: --conf base --conf cluster --set session.master=…"
        )
    return Platform.LAPTOP


def is_ours() -> bool:
    """Whether a session that is asked for now is started by this process, which then ends it: no other one is
    there, and spark-submit has started none.
    """
    is_there = _is_running() or active_session() is not None
    return (
        not is_there
        and "PYSPARK_GATEWAY_PORT" not in os.environ
        and marked_platform() is not Platform.DATABRICKS
    )


def named_master(settings: SessionSettings) -> str | None:
    """The master of a session that this process starts: conf's, else that of spark-defaults.conf."""
    return settings.master or settings.conf.get(_MASTER) or default_master()


def default_master() -> str | None:
    """What spark-submit takes where nothing else names a master."""
    file = _defaults_file()
    lines = file.read_text().splitlines() if file and file.is_file() else []
    for line in lines:
        key, _, value = line.strip().replace("=", " ", 1).partition(" ")
        if key == _MASTER:
            return value.strip()
    return os.environ.get("MASTER")


def _is_running() -> bool:
    context = getattr(pyspark, "SparkContext", None)  # which a client of Spark Connect may be without
    return context is not None and context._active_spark_context is not None


def _defaults_file() -> Path | None:
    if folder := os.environ.get("SPARK_CONF_DIR"):
        return Path(folder, "spark-defaults.conf")
    home = os.environ.get("SPARK_HOME")
    return Path(home, "conf", "spark-defaults.conf") if home else None


def is_local(master: str | None) -> bool:
    return master is None or master == "local" or master.startswith("local[")


def marked_platform() -> Platform | None:
    """The platform that has left its marks on this machine."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return Platform.DATABRICKS
    if "DATAPROC_IMAGE_VERSION" in os.environ or Path("/etc/google-dataproc").exists():
        return Platform.DATAPROC
    if "EMR_CLUSTER_ID" in os.environ or Path("/usr/share/aws/delta/lib").exists():
        return Platform.EMR
    return None
