"""A cluster's machine never gets a laptop's session unasked, and a session that does not start says why."""

from __future__ import annotations

import pyspark
import pytest

from recap_spark.errors import PlatformError
from recap_spark.machine.jvm_start import jvm_log, without_artefact
from recap_spark.machine.platforms import Platform, is_ours, platform

MARKS = (
    "DATABRICKS_RUNTIME_VERSION",
    "DATAPROC_IMAGE_VERSION",
    "EMR_CLUSTER_ID",
    "PYSPARK_GATEWAY_PORT",
    "SPARK_CONF_DIR",
    "SPARK_HOME",
    "MASTER",
)


@pytest.fixture
def bare(monkeypatch):
    """A machine without marks, and a process without a session."""
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pyspark.SparkContext, "_active_spark_context", None)
    return monkeypatch


def session(settings, master):
    return settings.session.model_copy(update={"master": master})


def test_without_any_master_no_session_is_made_up(settings, bare):
    with pytest.raises(PlatformError, match=r"session\.master: want one, .*found null"):
        platform(session(settings, None))


@pytest.mark.parametrize("master", ["local", "local[3,4]"])
def test_without_marks_a_local_master_is_a_laptops(settings, bare, master):
    assert platform(session(settings, master)) is Platform.LAPTOP
    assert is_ours()


@pytest.mark.parametrize(
    "master", ["yarn", "spark://host:7077", "k8s://https://host:6443", "local-cluster[2,2,1024]"]
)
def test_a_master_that_conf_names_is_honoured(settings, bare, master):
    assert platform(session(settings, master)) is Platform.CLUSTER
    bare.setenv("EMR_CLUSTER_ID", "j-1")
    assert platform(session(settings, master)) is Platform.EMR
    assert is_ours()


def test_so_is_one_of_spark_defaults(settings, bare, tmp_path):
    (tmp_path / "spark-defaults.conf").write_text(
        "# a comment\nspark.eventLog.enabled true\nspark.master   yarn\n"
    )
    bare.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert platform(session(settings, None)) is Platform.CLUSTER
    with pytest.raises(
        PlatformError, match=r"found spark\.master yarn in .*and session\.master local\[3,4\]"
    ):
        platform(session(settings, "local[3,4]"))


@pytest.mark.parametrize(
    ("mark", "name"), [("EMR_CLUSTER_ID", "emr"), ("DATAPROC_IMAGE_VERSION", "dataproc")]
)
def test_a_clusters_machine_starts_no_session_of_its_own_unasked(settings, bare, mark, name):
    bare.setenv(mark, "1")
    for master in ("local[3,4]", None):
        with pytest.raises(PlatformError, match=f"want a session of the cluster, found {name}'s marks"):
            platform(session(settings, master))


@pytest.mark.parametrize("mark", [None, "EMR_CLUSTER_ID"])
def test_a_session_that_spark_submit_brings_is_taken_as_it_is(settings, bare, mark):
    bare.setenv("PYSPARK_GATEWAY_PORT", "1")
    if mark:
        bare.setenv(mark, "1")
    wanted = Platform.EMR if mark else Platform.SUBMITTED
    assert platform(session(settings, "local[3,4]")) is wanted
    assert not is_ours()


def test_so_is_one_that_runs_already(settings, bare):
    bare.setattr(pyspark.SparkContext, "_active_spark_context", object())
    assert platform(session(settings, "local[3,4]")) is Platform.RUNNING
    assert not is_ours()


IVY = """
Ivy Default Cache set to: /home/us/.ivy2/cache
The jars for the packages stored in: /home/us/.ivy2/jars
\t\tmodule not found: io.delta#delta-spark_2.13;4.4.0
\t==== local-m2-cache: tried
\t==== central: tried
\t\tmodule not found: io.delta#delta-spark_2.13;4.4.0
"""


def test_a_package_that_ivy_could_not_have_is_named_with_the_places_it_looked_in():
    said = without_artefact(IVY)
    assert said is not None
    assert said.startswith(
        "want io.delta#delta-spark_2.13;4.4.0 for Spark, found none in "
        "/home/us/.ivy2/cache, /home/us/.ivy2/jars, local-m2-cache, central: "
    )
    assert "session.jars" in said
    assert without_artefact("Ivy Default Cache set to: /home/us/.ivy2/cache") is None


def test_of_a_log_only_what_this_start_wrote_counts(tmp_path):
    log = tmp_path / "spark.log"
    log.write_text(IVY)
    with (
        pytest.raises(PlatformError, match=r"^Spark did not start \(no Java\); its own words are in "),
        jvm_log(str(log)),
    ):
        raise RuntimeError("no Java")
