"""The CPU stages run on Spark Connect, which is what Databricks' standard access mode gives."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from faulty_replies import JPEG
from faulty_server import misbehaving
from img2dataset_shards import write_tar
from metadata_files import DATACOMP, damaged, row, uid, write
from pyspark.sql import SparkSession
from repository import ROOT

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.lake.connect import connected
from recap_spark.machine.java import find_java
from recap_spark.machine.session import with_delta

pytestmark = pytest.mark.spark

SHA256 = hashlib.sha256(JPEG).hexdigest()
SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"
CONF = {
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": "0",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.master": "local[2,4]",
    "spark.python.daemon.module": "recap_spark.machine.worker_daemon",
    # A few rows of many queries: to compile each costs more than it saves.
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
}
# Of the server's own words the one line with its port.
LOG = """
rootLogger = warn, words
appender.words.type = Console
appender.words.name = words
appender.words.layout.type = PatternLayout
appender.words.layout.pattern = %p %c: %m%n
logger.server.name = org.apache.spark.sql.connect.service.SparkConnectServer
logger.server.level = info
"""
WRITING = (
    "DELETE FROM samples",
    "DROP TABLE samples",
    "INSERT INTO samples SELECT * FROM samples",
    "WITH a AS (SELECT * FROM samples) INSERT INTO samples SELECT * FROM a",
    "SELECT uid FROM samples) INSERT INTO samples (SELECT * FROM samples",
    "OPTIMIZE samples",
    "USE default",
    "SET spark.sql.shuffle.partitions=9",
    "/* SHOW */ DELETE FROM samples",
    "SELECT TRANSFORM(uid) USING 'cat' AS (y) FROM samples",
)


@contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """A server of Spark Connect with Delta, in a process of its own; yields its address."""
    conf = CONF | with_delta(SparkSession.Builder(), jars=None)._options
    conf |= {"spark.sql.warehouse.dir": str(folder / "warehouse")}
    home = Path(pyspark.__file__).parent
    (folder / "log4j2.properties").write_text(LOG)
    conf |= {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={folder}/log4j2.properties"}
    words = [f"--conf={key}={value}" for key, value in conf.items()]
    command = [str(home / "bin" / "spark-submit"), "--class", SERVER, *words, "spark-internal"]
    variables = os.environ | {
        "JAVA_HOME": str(find_java().home),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "SPARK_HOME": str(home),
    }
    log = folder / "server.log"
    with log.open("wb") as words_of_its_own:
        server = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=words_of_its_own, stderr=subprocess.STDOUT
        )
    try:
        yield f"sc://127.0.0.1:{await_port(server, log)}"
    finally:
        server.terminate()
        server.wait(30)


def await_port(server: subprocess.Popen[bytes], log: Path) -> str:
    while server.poll() is None:
        if found := re.search(r"Spark Connect server started at: \S+?:(\d+)\s", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def write_metadata(folder: Path, base: str) -> None:
    """Good rows under names that are no plain ones, and every file that cannot be read or not whole."""
    good = {"sha256": SHA256, "url": f"{base}/plain"}
    write(folder / "good.parquet", *(row(name, **good) for name in "abc"), row("broken", url=f"{base}/500"))
    write(folder / "part 1" / "[a]{b}*?\\c.parquet", row("globbed", **good))
    write(folder / "part 1" / "100%.parquet", row("percent", **good), row("percent", **good, text="other"))
    write(folder / "_temporary" / "unfinished.parquet", row("unfinished", **good))
    (folder / "empty.parquet").touch()
    (folder / "no parquet.parquet").write_bytes(b"not a parquet file at all")
    whole = write(folder / "cut.parquet", row("cut")).read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:-20])
    damaged(folder / "damaged.parquet")
    times = pa.Table.from_pylist([row("times", **good)], schema=DATACOMP)
    pq.write_table(times.append_column("at", pa.array([1], pa.time64("ns"))), folder / "times.parquet")
    untyped = times.set_column(1, "url", pa.array([1], pa.time64("ns")))
    pq.write_table(untyped, folder / "untyped.parquet")


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("connect")
    (folder / "statements.json").write_text(json.dumps(WRITING))
    write_tar(folder / "shards" / "00000.tar", ("000000000", JPEG, {"uid": uid("a"), "sha256": SHA256}))
    with misbehaving() as web, connect_server(folder) as address:
        write_metadata(folder / "metadata", web.base)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "support" / "connect_client.py"), str(folder)],
            env=os.environ | {"PYTHONPATH": paths, "SPARK_REMOTE": address},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "seen.json").read_text()) | {"folder": folder, "said": done.stderr}


def test_stages_that_want_a_gpu_are_refused_in_one_line_before_anything_is_done(seen):
    gpus = seen["gpus"]
    for name in ("caption", "score", "calibrate"):
        assert re.fullmatch(rf"PlatformError: {name}: want .* found Spark Connect: run it .*", gpus[name])
    assert gpus["all"] == gpus["caption"]
    assert gpus["made"] == []


def test_the_doctor_says_what_runs_on_spark_connect_and_what_does_not(seen):
    lines = [line.split(maxsplit=2) for line in seen["gpus"]["doctor"].splitlines()]
    found = {check: (verdict, text) for verdict, check, text in lines}
    assert seen["gpus"]["is fit"]
    assert "Java:" not in found
    assert "Spark Connect" in found["session:"][1]
    assert found["GPUs:"][0] == "warning"
    assert "dedicated access mode" in found["GPUs:"][1]
    assert found["Delta:"][0] == found["Arrow:"][0] == "ok"


def test_every_row_and_file_is_a_sample_or_a_reject_whatever_the_files_names_are(seen):
    samples = {one: Path(file).name for one, file in seen["samples"]}
    named = {uid(name): "good.parquet" for name in ("a", "b", "c", "broken")}
    named |= {uid("globbed"): "%5Ba%5D%7Bb%7D*%3F%5Cc.parquet", uid("times"): "times.parquet"}
    assert {one: samples[one] for one in named} == named
    rejects = Counter((Path(file).name, at, reason) for file, at, reason, _ in seen["rejects"])
    refused = {name: "unreadable_file" for name in ("empty", "no parquet", "cut", "damaged")}
    refused |= {"untyped": "wrong_type"}
    for name, reason in refused.items():
        assert rejects.pop((f"{name}.parquet", None, reason)) == 1
    assert {reason for _, _, reason in rejects} <= {"conflicting_uid", "repeated_uid"}
    assert len(samples) + rejects.total() == 8
    assert uid("unfinished") not in samples


def test_a_refused_file_says_what_was_wrong_with_it(seen):
    why = {Path(file).stem: raw for file, at, _, raw in seen["rejects"] if at is None}
    assert "is not a Parquet file" in why["no parquet"]
    assert "is not a Parquet file" in why["empty"]
    assert "url" in why["untyped"]
    assert all(why.values())


def test_pictures_come_from_shards_and_from_the_web_and_a_second_run_adds_nothing(seen):
    statuses = Counter(status for _, status, _, _ in seen["images"])
    assert statuses == {"ok": len(seen["samples"]) - 1, "http_5xx": 1}
    assert {size for _, status, size, _ in seen["images"] if status == "ok"} == {len(JPEG)}
    assert [attempts for _, status, _, attempts in seen["images"] if status != "ok"] == [2]  # by the retry
    assert seen["counts"]["import-images"]["added"] == 1
    assert Counter(seen["counts"]["probed"]) == {"ok": statuses["ok"] - 1, "http_5xx": 1}
    assert seen["again"] == {
        "ingest": {"held": 5, "unreadable_file": 1},
        "import-images": {},
        "fetch": 0,
    }
    assert not seen["grew"]


def test_views_draw_and_an_export_has_every_pair(seen):
    pairs = len(seen["samples"])
    assert seen["drawn"] == [["a recaption"]]
    assert seen["viewed"] == pairs
    (manifest,) = seen["folder"].glob("lake/exports/*/manifest.json")
    (shard,) = manifest.parent.glob("parquet/*.parquet")
    assert pq.read_metadata(shard).num_rows == pairs - 1  # one has no picture
    assert seen["subset"] == len(np.load(seen["folder"] / "subset.npy")) == pairs


def test_sql_reads_and_nothing_else_and_says_what_was_wrong_without_javas_trace(seen):
    assert seen["shown"] > 0
    assert seen["undefined"].startswith("InputError: sql: [TABLE_OR_VIEW_NOT_FOUND]")
    assert "\tat " not in seen["undefined"]
    for statement in WRITING:
        assert seen["statements"][statement].startswith("InputError: sql: "), statement
    assert seen["left"] == len(seen["samples"])


def test_named_parameters_bind(seen):
    assert seen["bound"] == ["it's"]


def test_a_client_writes_no_trace_where_nothing_went_wrong(seen):
    assert "Traceback" not in seen["said"]


def test_a_server_that_is_away_is_said_at_once_and_a_token_in_a_settings_file_is_refused(monkeypatch):
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("SPARK_REMOTE", f"sc://127.0.0.1:{port}/;token=hidden")
    with pytest.raises(
        PlatformError, match="want a server of Spark Connect at SPARK_REMOTE, found: "
    ) as caught:
        connected({})
    assert "hidden" not in str(caught.value)
    with pytest.raises(SettingsError, match="want no token in a settings file") as refused:
        connected({"spark.remote": "sc://host.test/;token=hidden"})
    assert "hidden" not in str(refused.value)
