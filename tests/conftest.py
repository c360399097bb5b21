"""One Spark for all tests, a lake for each, and the miniature's web for those that fetch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recap_spark.lake import Lake
from recap_spark.session import start
from recap_spark.settings import LakeSettings, SessionSettings, Settings, load

ROOT = Path(__file__).parents[1]
CONF = tuple(ROOT / "conf" / name for name in ("base.yml", "laptop.yml", "demo.yml"))

# Nothing in a test may ask the network for weights or telemetry.
os.environ |= {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The demo's settings."""
    return load(*CONF)


@pytest.fixture(scope="session")
def spark(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The laptop's session, with its metastore in a folder of the tests' own."""
    folder = tmp_path_factory.mktemp("spark")
    changed = {"metastore": str(folder / "metastore"), "log": str(folder / "spark.log")}
    session = SessionSettings.model_validate(settings.session.model_dump() | changed)
    spark = start(session, LakeSettings(root=str(folder), namespace="recap"))
    yield spark
    spark.stop()


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    """An empty lake of folders."""
    return Lake(spark, LakeSettings(root=str(tmp_path / "lake"), namespace=None))
