"""One Spark for all tests, a lake for each, and the miniature's web for those that fetch."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from repository import ROOT

from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.session import start
from recap_spark.settings.loading import load
from recap_spark.settings.schema import LakeSettings, SessionSettings, Settings
from recap_spark.tables import IMAGES, SAMPLES, Table

CONF = tuple(ROOT / "conf" / name for name in ("base.yml", "laptop.yml", "demo.yml"))

_LONGEST = (
    "test_killed.py",
    "test_path.py",
    "test_published.py",
    "test_selection.py",
    "test_ingest.py",
    "test_import_images.py",
    "test_retry.py",
    "test_gpu_cluster.py",
    "test_launch.py",
    "test_run.py",
    "test_placeholders.py",
)

# Without a GPU Triton's kernels are run by its interpreter, which it asks about when it is first imported.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# Nothing in a test may ask the network for weights or telemetry.
os.environ |= {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
# Every JVM that a test starts, drivers and executors alike, ends before the second compiler and a parallel
# collector have earned what they cost. With the first compiler alone a JVM has room for 48 MB of code, and a
# session compiles to more: it would throw code away and compile it again to its end, a third of all its time.
_SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
os.environ["JDK_JAVA_OPTIONS"] = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} {_SHORT_LIVED}".strip()
# Models of some thousand weights: a second thread would spend its time on waiting for the first.
os.environ |= {"OMP_NUM_THREADS": "1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: several processes share out the files, and none shall begin with one at the end."""
    items.sort(
        key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST)
    )


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The demo's settings."""
    return load(*CONF)


@pytest.fixture(scope="session")
def spark(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The laptop's session, for tables of a few rows, with its metastore in a folder of the tests' own."""
    folder = tmp_path_factory.mktemp("spark")
    small = {"spark.sql.shuffle.partitions": "2", "spark.databricks.delta.snapshotPartitions": "1"}
    changed = {"metastore": str(folder / "metastore"), "log": str(folder / "spark.log")}
    changed |= {"conf": settings.session.conf | small}
    session = SessionSettings.model_validate(settings.session.model_dump() | changed)
    spark = start(session, LakeSettings(root=str(folder), namespace="recap"))
    yield spark
    spark.stop()


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    """An empty lake of folders."""
    return Lake(spark, LakeSettings(root=str(tmp_path / "lake"), namespace=None))


@pytest.fixture(scope="session")
def new_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Lake]:
    """Makes an empty lake of folders, for fixtures whose lake several tests read."""
    return lambda: Lake(spark, LakeSettings(root=str(tmp_path_factory.mktemp("lake")), namespace=None))


Rows = Iterable[Mapping[str, Any]]


@pytest.fixture(scope="session")
def make(new_lake: Callable[[], Lake]) -> Callable[..., None]:
    """Makes tables of a lake of folders: a copy of those made once, where Delta takes a second for each."""
    made = new_lake()

    def make(lake: Lake, *tables: Table) -> None:
        for table in tables:
            folder = Path(lake.settings.root, table.name)
            if not folder.exists():
                made.create(table)
                shutil.copytree(Path(made.settings.root, table.name), folder)

    return make


@pytest.fixture(scope="session")
def fill(make: Callable[..., None]) -> Callable[..., Lake]:
    """Puts rows into a lake's samples and images; what a row does not say is null, or of no account."""

    def fill(lake: Lake, *, samples: Rows = (), images: Rows = ()) -> Lake:
        sample = {"source_row": 0, "source_file": "f", "url": "http://x.test/"}
        image = {"attempts": 1, "status": "ok", "fetched_at": datetime(2026, 1, 1, tzinfo=UTC)}
        make(lake, SAMPLES, IMAGES)
        for table, rows, rest in ((SAMPLES, samples, sample), (IMAGES, images, image)):
            if complete := [rest | dict(row) for row in rows]:
                _append(lake, table, complete)
        return lake

    return fill


@pytest.fixture
def filled(lake: Lake, fill: Callable[..., Lake]) -> Callable[..., Lake]:
    """The same, into the test's own lake."""
    return partial(fill, lake)


def _append(lake: Lake, table: Table, rows: list[dict[str, Any]]) -> None:
    values = [tuple(row.get(name) for name in table.schema.names) for row in rows]
    frame = frame_of(lake.spark, values, table.schema)
    assert lake.append(table, frame, transaction=Transaction(uuid.uuid4().hex, 0)) == len(rows)
