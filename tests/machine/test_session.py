"""A laptop's session is built on a laptop alone, and one that does not start says why."""

from __future__ import annotations

import os

import pytest
from repository import CONF

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.machine.session import Platform, platform, start
from recap_spark.machine.start_failure import jvm_log, unresolved
from recap_spark.settings.loading import load

MARKS = ("DATABRICKS_RUNTIME_VERSION", "EMR_CLUSTER_ID", "DATAPROC_IMAGE_VERSION", "PYSPARK_GATEWAY_PORT")

# What Ivy 2.5 prints through spark-submit, shortened.
IVY = """
:::: WARNINGS
\t\tmodule not found: io.delta#delta-spark_4.9_2.13;9.9.9
\t==== local-m2-cache: tried
\t  file:/home/me/.m2/repository/io/delta/delta-spark_4.9_2.13/9.9.9/delta-spark_4.9_2.13-9.9.9.pom
\t==== local-ivy-cache: tried
\t  /home/me/.ivy2.5.2/local/io.delta/delta-spark_4.9_2.13/9.9.9/ivys/ivy.xml
\t==== central: tried
\t  https://maven.test/maven2/io/delta/delta-spark_4.9_2.13/9.9.9/delta-spark_4.9_2.13-9.9.9.pom
\t\t::          UNRESOLVED DEPENDENCIES         ::
\t\t:: io.delta#delta-spark_4.9_2.13;9.9.9: not found
"""


@pytest.fixture
def nowhere(monkeypatch):
    """No mark of any platform, and no session of other tests."""
    for name in (*MARKS, "SPARK_HOME", "SPARK_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", None)
    return monkeypatch


def test_where_nothing_says_otherwise_it_is_a_laptop(nowhere):
    assert platform() is Platform.LAPTOP


@pytest.mark.parametrize("mark", MARKS)
def test_a_laptops_settings_are_refused_where_a_platform_brings_its_session(nowhere, mark):
    nowhere.setenv(mark, "4.0")
    settings = load(CONF / "base.yml", CONF / "laptop.yml")
    with pytest.raises(SettingsError, match=r"session.master: want null on .*, found local\[3,4\]: name"):
        start(settings.session, settings.lake)


def test_a_master_of_sparks_own_settings_is_no_laptop(nowhere, tmp_path):
    nowhere.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert platform() is Platform.LAPTOP  # no such file
    (tmp_path / "spark-defaults.conf").write_text("# spark.master local\n\nspark.jars.ivy /tmp\n")
    assert platform() is Platform.LAPTOP
    (tmp_path / "spark-defaults.conf").write_text("spark.master=yarn\n")
    assert platform() is Platform.OTHER
    (tmp_path / "spark-defaults.conf").write_text("spark.master    k8s://https://host:443\n")
    assert platform() is Platform.OTHER


def test_without_any_master_no_session_is_made_up(nowhere):
    settings = load(CONF / "base.yml", CONF / "cluster.yml")
    with pytest.raises(SettingsError, match=r"session.master: want a master, .*found null"):
        start(settings.session, settings.lake)


def test_an_artefact_that_ivy_could_not_have_is_named_with_where_it_looked():
    assert unresolved(IVY) == (
        "want io.delta:delta-spark_4.9_2.13:9.9.9, found in none of local-m2-cache "
        "(file:/home/me/.m2/repository), local-ivy-cache (/home/me/.ivy2.5.2/local), "
        "central (https://maven.test/maven2)"
    )
    assert unresolved("Exception in thread main java.lang.OutOfMemoryError") is None


def test_a_spark_that_does_not_start_says_what_its_log_says_of_this_start(tmp_path):
    def start_in_vain() -> None:
        with jvm_log(str(log)):
            os.write(2, IVY.encode())
            raise RuntimeError("JAVA_GATEWAY_EXITED")

    log = tmp_path / "log"
    log.write_text(IVY.replace("9.9.9", "8.8.8"))  # of an earlier start
    with pytest.raises(PlatformError) as said:
        start_in_vain()
    assert "want io.delta:delta-spark_4.9_2.13:9.9.9, found in none of" in str(said.value)
    assert "8.8.8" not in str(said.value)
    assert str(said.value).endswith(f"its own words are in {log}")
