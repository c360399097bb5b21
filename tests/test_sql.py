"""People who only write SQL: the cookbook in three engines, and Spark's own server from three clients."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyspark
import pytest
from deltalake import DeltaTable, QueryBuilder
from pyhive import hive
from repository import CONF, ROOT
from sql_lake import CAPTIONER, UIDS, changes

from recap_spark.draw import keeps_original
from recap_spark.machine.java import find_java
from recap_spark.stages.importing.imports_table import IMPORTS
from recap_spark.tables import ALL

pytestmark = pytest.mark.spark

JARS = Path(pyspark.__file__).parent / "jars"
BLOCK = re.compile(r"^## (\d+)\. (.+?)$|^```sql ?([^\n]*)\n(.*?)^```", re.M | re.S)
# How an engine that has no other spelling of its own is named.
ENGINES = ("spark", "duckdb", "delta-rs")
WAITS_S = 240
JDBC = """
import java.sql.*;
public class Ask {
    public static void main(String[] words) throws Exception {
        try (Connection asked = DriverManager.getConnection(words[0]);
             ResultSet found = asked.createStatement().executeQuery(words[1])) {
            while (found.next()) System.out.println(found.getString(1) + "," + found.getLong(2));
        }
    }
}
"""


@dataclass(frozen=True)
class Query:
    """One of the cookbook, in one engine's words."""

    number: int
    engine: str
    sql: str


def cookbook() -> list[Query]:
    """Every query for every engine that it is written for."""
    queries, number = [], 0
    for heading, _, engines, sql in BLOCK.findall((ROOT / "notebooks/cookbook.md").read_text()):
        if heading:
            number = int(heading)
        else:
            queries += [Query(number, engine, sql) for engine in engines.split() or ENGINES]
    return queries


QUERIES = cookbook()


@dataclass(frozen=True)
class Server:
    port: int
    root: Path
    process: subprocess.Popen[bytes]

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """The last one's rows, to a Python client."""
        with hive.connect("127.0.0.1", port=self.port, database="recap") as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`recap-spark serve-sql` over a small lake."""
    folder = tmp_path_factory.mktemp("sql")
    root, log = folder / "lake", folder / "server.log"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    variables = os.environ | {"PYTHONPATH": paths}
    subprocess.run([sys.executable, ROOT / "tests/support/sql_lake.py", root], env=variables, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "recap_spark.cli", "serve-sql", "--port", str(port)]
    command += [word for name in ("base", "laptop") for word in ("--conf", str(CONF / f"{name}.yml"))]
    command += [word for change in changes(root) for word in ("--set", change)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=out)
    try:
        await_words("serving, read only", log, process)
        yield Server(port, root, process)
    finally:
        process.kill()
        process.wait()


def await_words(words: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + WAITS_S
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < last, log.read_text()[-3000:]
        time.sleep(0.2)


def tables(server: Server) -> dict[str, DeltaTable]:
    return {table.name: DeltaTable(server.root / "recap.db" / table.name) for table in (*ALL, IMPORTS)}


def by_duckdb(server: Server, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        for name, table in tables(server).items():
            connection.register(name, table.to_pyarrow_dataset())
        return connection.sql(sql).fetchall()


def by_delta_rs(server: Server, sql: str) -> list[tuple[Any, ...]]:
    builder = QueryBuilder()
    for name, table in tables(server).items():
        builder.register(name, table)
    found = builder.execute(sql).read_all()
    columns = [column.to_pylist() for column in map(found.column, range(found.num_columns))]
    return list(zip(*columns, strict=True))


@cache
def answer(server: Server, query: Query) -> list[tuple[Any, ...]]:
    if query.engine == "spark":
        return server.ask(query.sql)
    return (by_duckdb if query.engine == "duckdb" else by_delta_rs)(server, query.sql)


def plain(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows whose numbers are compared by value, whichever type an engine gives them."""
    return [[value if isinstance(value, str | None) else float(value) for value in row] for row in rows]


def is_same(one: list[list[Any]], other: list[list[Any]]) -> bool:
    pairs = [(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)]
    return all(
        math.isclose(a, b, rel_tol=1e-6) if isinstance(a, float) and isinstance(b, float) else a == b
        for a, b in pairs
    )


@pytest.mark.parametrize("number", sorted({query.number for query in QUERIES}))
def test_a_query_of_the_cookbook_says_the_same_in_every_engine(server, number):
    answers = {query.engine: plain(answer(server, query)) for query in QUERIES if query.number == number}
    assert len(answers) > 1 or number == 17
    assert answers["spark"]
    for engine, found in answers.items():
        assert is_same(answers["spark"], found), engine


def test_the_cookbook_has_fifteen_queries_and_more_in_each_engine():
    for engine in ENGINES:
        assert len({query.number for query in QUERIES if query.engine == engine}) >= 16


KNOWN = {
    1: [[CAPTIONER, "small", "float32", 5.0]],
    2: [["samples", 6.0, 6.0], ["images", 6.0, 4.0], ["captions", 5.0, 5.0]],
    3: [["null_uid", "one.parquet", 2.0], ["unreadable_file", "two.parquet", 1.0]],
    4: [["ok", 4.0, 66.7], ["gone", 2.0, 33.3]],
    5: [["gone.test", 2.0, 2.0], ["good.test", 4.0, 0.0]],
    6: [["jpeg", 3.0, 200.0, 300.0], ["png", 1.0, 400.0, 400.0]],
    7: [[f"{2:064x}", 2.0]],
    8: [["true", 3.0], ["unknown", 1.0]],
    9: [["original", 5.0, 17 / 5], [CAPTIONER, 5.0, 4.0]],
    10: [[CAPTIONER, 1.0, 5.0, 7.0]],
    12: [[CAPTIONER, "A field.", 2.0]],
    13: [["clip", CAPTIONER, 2.0, 0.0625, 0.5]],
    14: [["1: below 20 characters", 2.0, 0.5]],
    15: [[UIDS[2]], [UIDS[3]], [UIDS[4]], [UIDS[5]]],
    17: [[0.0]],
}


@pytest.mark.parametrize("number", KNOWN)
def test_a_query_of_the_cookbook_says_what_is_so(server, number):
    (query,) = (query for query in QUERIES if query.number == number and query.engine == "spark")
    found = plain(answer(server, query))
    assert is_same(found, KNOWN[number]), found


def test_mixed_captions_draw_as_python_does(server):
    for uid, _, source in server.ask("SELECT uid, caption, source FROM mixed_captions(0.8, 7, 3)"):
        wanted = "original" if keeps_original(uid, p=0.8, seed=7, epoch=3) else "recaption"
        assert source in (wanted, "fallback")


@pytest.mark.parametrize("relation", ["recap_datacomp", *(table.name for table in ALL)])
def test_a_table_or_view_and_each_of_its_columns_say_what_they_hold(server, relation):
    said = server.ask(f"DESCRIBE TABLE EXTENDED {relation}")
    columns = said[: next(place for place, row in enumerate(said) if not row[0] or row[0][0] == "#")]
    assert len(columns) >= 4
    assert [name for name, _, comment in columns if not comment] == []
    assert [about for name, about, _ in said if name == "Comment"] != []


def test_the_table_function_says_what_it_takes_and_what_its_columns_hold(server):
    said = "\n".join(row[0] for row in server.ask("DESCRIBE FUNCTION EXTENDED mixed_captions"))
    for word in ("probability of the original caption", "another seed draws anew", "each epoch draws anew"):
        assert word in said
    assert "original, recaption, or fallback where the drawn one is missing" in said


def test_a_table_function_is_called_after_use_too(server):
    with hive.connect("127.0.0.1", port=server.port) as connection:
        cursor = connection.cursor()
        cursor.execute("USE recap")
        cursor.execute("SELECT count(*) FROM mixed_captions(1.0, 7, 0)")
        assert cursor.fetchall() == [(6,)]


REFUSED = {
    "AppendData": "INSERT INTO captions SELECT * FROM captions",
    "OverwriteByExpression": "INSERT OVERWRITE captions SELECT * FROM captions",
    "Delete": "DELETE FROM captions",
    "Update": "UPDATE captions SET caption = 'mine'",
    "MergeInto": "MERGE INTO captions USING samples s ON captions.uid = s.uid WHEN MATCHED THEN DELETE",
    "DropTable": "DROP TABLE captions",
    "DropNamespace": "DROP SCHEMA recap CASCADE",
    "DropFunction": "DROP FUNCTION mixed_captions",
    "AddColumns": "ALTER TABLE captions ADD COLUMNS (mine INT)",
    "TruncateDeltaTable": "TRUNCATE TABLE captions",
    "CreateTable": "CREATE TABLE mine (a INT) USING delta",
    "CreateTableAsSelect": "CREATE TABLE mine USING delta AS SELECT 1 AS a",
    "CreateView": "CREATE OR REPLACE VIEW recap_datacomp AS SELECT 1 AS mine",
    "CreateNamespace": "CREATE SCHEMA mine",
    "OptimizeTable": "OPTIMIZE captions",
    "VacuumTable": "VACUUM captions",
    "RestoreTable": "RESTORE TABLE captions TO VERSION AS OF 0",
    "InsertIntoDataSourceDir": "INSERT OVERWRITE DIRECTORY '/tmp/mine' USING csv SELECT uid FROM samples",
    "AddJars": "ADD JAR '/tmp/mine.jar'",
    "Delete ": "EXECUTE IMMEDIATE 'DELETE FROM captions'",
    "Delete  ": "BEGIN DELETE FROM captions; END",
    "ScriptTransformation": "SELECT TRANSFORM(uid) USING 'cat' AS (y) FROM samples",
    "files that are no table": "SELECT * FROM text.`/etc/passwd`",
    "a call of Java": "SELECT * FROM samples WHERE uid = reflect('java.lang.System', 'getenv', 'HOME')",
    "a call of Java ": "SELECT 1 WHERE 'a' IN (SELECT java_method('java.lang.System', 'lineSeparator'))",
}


@pytest.mark.parametrize("found", REFUSED)
def test_a_client_can_change_nothing_and_run_nothing(server, found):
    before = {name: table.version() for name, table in tables(server).items()}
    said = f"this server only reads: want a query of tables, .*, found {found.strip()}"
    with pytest.raises(hive.OperationalError, match=said):
        server.ask(REFUSED[found])
    assert {name: table.version() for name, table in tables(server).items()} == before


def test_what_a_client_sets_opens_no_way_to_write(server):
    """Spark's other analyzer has commands of none of these kinds."""
    before = tables(server)["captions"].version()
    for key in ("enabled", "enabledTentatively"):
        switch = f"SET spark.sql.analyzer.singlePassResolver.{key}=true"
        for statement in (
            "DELETE FROM captions",
            "DROP TABLE captions",
            "INSERT INTO captions TABLE captions",
        ):
            with pytest.raises(hive.OperationalError):
                server.ask(switch, statement)
    assert tables(server)["captions"].version() == before
    assert server.ask("SET spark.sql.shuffle.partitions=3", "SELECT count(*) FROM recap_datacomp") == [(5,)]


def java(*words: str) -> subprocess.CompletedProcess[str]:
    command = [find_java().home / "bin" / "java", "-cp", f"{JARS}/*", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAITS_S, check=True)


def test_beeline_asks_it(server):
    url = f"jdbc:hive2://127.0.0.1:{server.port}/recap"
    words = ["--outputformat=csv2", "--showHeader=false", "--silent=true"]
    query = "SELECT source, count(*) FROM mixed_captions(0.0, 7, 0) GROUP BY source ORDER BY source"
    found = java("org.apache.hive.beeline.BeeLine", "-u", url, *words, "-e", query)
    rows = [line for line in found.stdout.split() if "," in line]  # beside its prompt
    assert rows == ["fallback,1", "recaption,5"]


def test_a_jdbc_client_asks_it(server, tmp_path):
    program = tmp_path / "Ask.java"
    program.write_text(JDBC)
    url = f"jdbc:hive2://127.0.0.1:{server.port}/recap"
    found = java(str(program), url, "SELECT status, count(*) FROM images GROUP BY status ORDER BY status")
    assert found.stdout.split() == ["gone,2", "ok,4"]


def test_it_ends_by_a_signal_and_says_so(server):
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 143
    log = (server.root.parent / "server.log").read_text()
    assert "stopped by SIGTERM: clients are no longer answered" in log
    assert "Traceback" not in log
