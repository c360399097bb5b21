"""The same line opens the lake in a notebook of Databricks', of another platform, and of a laptop."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from repository import ROOT

from recap_spark.errors import InputError, SettingsError
from recap_spark.machine.notebook import open_lake

pytestmark = pytest.mark.spark


@dataclass
class Widgets:
    """Databricks' text boxes above a notebook: what somebody has typed stays, the default is shown else."""

    typed: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str, label: str) -> None:
        self.shown[name] = default

    def get(self, name: str) -> str:
        return self.typed.get(name, self.shown[name])


@dataclass
class Utilities:
    widgets: Widgets


@pytest.fixture(scope="module", autouse=True)
def schemas(spark):
    for name in ("typed", "named", "recap"):
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {name}")
    yield
    for name in ("typed", "named"):
        spark.sql(f"DROP SCHEMA {name}")


@pytest.fixture(autouse=True)
def beside_the_notebooks(spark, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    for name in ("RECAP_CONF", "RECAP_NAMESPACE", "DATABRICKS_RUNTIME_VERSION"):
        monkeypatch.delenv(name, raising=False)
    yield
    spark.sql("USE default")


def current(spark) -> str:
    return spark.catalog.currentDatabase()


def test_a_laptop_s_notebook_has_the_lake_of_the_command_line(spark):
    lake = open_lake({})
    assert (lake.spark, lake.settings.root, current(spark)) == (spark, "lake", "recap")
    assert Path.cwd() == ROOT


def test_databricks_notebook_has_the_given_session_and_the_schema_of_its_widget(spark, monkeypatch):
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    widgets = Widgets(typed={"namespace": "spark_catalog.typed"})
    lake = open_lake({"spark": spark, "dbutils": Utilities(widgets)})
    assert lake.spark is spark
    assert (lake.settings.namespace, current(spark)) == ("spark_catalog.typed", "typed")
    assert widgets.shown == {"namespace": "main.recap"}
    assert lake.settings.root == "/Volumes/main/recap/lake"


def test_the_environment_names_a_schema_and_the_widget_has_the_last_word(spark, monkeypatch):
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    monkeypatch.setenv("RECAP_NAMESPACE", "named")
    open_lake({"spark": spark})
    assert current(spark) == "named"
    widgets = Widgets()
    open_lake({"spark": spark, "dbutils": Utilities(widgets)})
    assert (widgets.shown, current(spark)) == ({"namespace": "named"}, "named")
    widgets.typed["namespace"] = "typed"
    open_lake({"spark": spark, "dbutils": Utilities(widgets)})
    assert current(spark) == "typed"


def test_settings_of_the_environment_are_those_of_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "mine.yml").write_text(
        "based_on: [base, laptop]\nlake: {root: /data/lake, namespace: named}\n"
    )
    monkeypatch.setenv("RECAP_CONF", f"base:{tmp_path / 'mine.yml'}")
    assert open_lake({}).settings.root == "/data/lake"


def test_a_lake_of_folders_has_no_names_for_sql(monkeypatch):
    monkeypatch.setenv("RECAP_CONF", "base")
    with pytest.raises(SettingsError, match=r"lake\.namespace: want a schema"):
        open_lake({})


def test_a_schema_that_is_not_there_is_said_with_what_makes_it(monkeypatch):
    monkeypatch.setenv("RECAP_NAMESPACE", "spark_catalog.nowhere")
    with pytest.raises(InputError, match=r"want the schema spark_catalog\.nowhere, found none: run"):
        open_lake({})
