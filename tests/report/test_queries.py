"""A command that reads refuses what is no query, before any of it is run."""

from __future__ import annotations

import pytest

from recap_spark.errors import InputError
from recap_spark.report.queries import check_reads_only, printable

QUERIES = (
    "SELECT 1",
    "WITH a AS (SELECT 1 AS x) SELECT x FROM a WHERE x IN (SELECT x FROM a)",
    "SELECT uid FROM a JOIN b USING (uid) UNION ALL SELECT uid FROM c ORDER BY uid LIMIT 5",
    "VALUES (1), (2)",
    "SELECT /*+ BROADCAST(a) */ DISTINCT x, sum(y) OVER w FROM a, LATERAL (TABLE b) WINDOW w AS (ORDER BY x)",
    "(SELECT x FROM a INTERSECT SELECT x FROM b) EXCEPT SELECT x FROM c",
    "SELECT * FROM (VALUES (1)) AS t(x) LIMIT 5 OFFSET 2",
    "TABLE a",
    "FROM a SELECT uid",
    "SELECT uid, caption FROM mixed_captions(0.8, 7, 3) LIMIT 5",
    "SELECT * FROM a TABLESAMPLE (10 PERCENT)",
    "SELECT * FROM a VERSION AS OF 3",
    "SELECT k, count(*) FROM a GROUP BY k HAVING count(*) > 1",
    "SELECT * FROM a LATERAL VIEW explode(b) t AS c",
    "SELECT * FROM a PIVOT (sum(x) FOR k IN (1, 2))",
)
SHOWN = ("EXPLAIN SELECT 1", "SHOW TABLES", "DESCRIBE TABLE a", "DESCRIBE HISTORY a", "DESCRIBE DETAIL a")
REFUSED = (
    "DELETE FROM a",
    "UPDATE a SET x = 1",
    "MERGE INTO a USING b ON a.u = b.u WHEN MATCHED THEN DELETE",
    "INSERT INTO a SELECT 1",
    "INSERT OVERWRITE TABLE a SELECT 1",
    "WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a",
    "FROM a INSERT INTO b SELECT x INSERT INTO c SELECT y",
    "INSERT OVERWRITE DIRECTORY '/tmp/x' USING parquet SELECT 1",
    "CREATE TABLE a AS SELECT 1",
    "CREATE OR REPLACE VIEW a AS SELECT 1",
    "DROP TABLE a",
    "TRUNCATE TABLE a",
    "ALTER TABLE a ADD COLUMN x INT",
    "OPTIMIZE a",
    "VACUUM a",
    "RESTORE TABLE a TO VERSION AS OF 1",
    "SET spark.sql.shuffle.partitions=1",
    "USE other",
    "CACHE TABLE a",
    "ADD JAR 'x.jar'",
    "CALL a.b()",
    "BEGIN DELETE FROM a; END",
    "SELECT TRANSFORM(x) USING 'cat' AS (y) FROM a",
)


@pytest.mark.spark
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("INTERVAL '1 02:03:04.5' DAY TO SECOND", "INTERVAL '1 02:03:04.5' DAY TO SECOND"),
        ("INTERVAL '1-2' YEAR TO MONTH", "INTERVAL '1-2' YEAR TO MONTH"),
        ("make_interval(1, 2)", "1 years 2 months"),
        ("date'9999-12-31' + 1", "+10000-01-01"),
        ("date'2026-01-02'", "2026-01-02"),
    ],
)
def test_a_value_that_python_does_not_have_is_shown_as_spark_says_it(spark, value, shown):
    assert [tuple(row) for row in printable(spark.sql(f"SELECT {value}")).toLocalIterator()] == [(shown,)]


@pytest.mark.spark
def test_a_statement_that_changes_something_is_refused_by_its_kind(spark):
    for shows in (True, False):
        for query in QUERIES:
            check_reads_only(spark, query, command="sql", shows=shows)
        for query in REFUSED:
            with pytest.raises(InputError, match=r"^sql: want a query.* that changes nothing, found \w+$"):
                check_reads_only(spark, query, command="sql", shows=shows)
    for query in SHOWN:
        check_reads_only(spark, query, command="sql", shows=True)
        with pytest.raises(InputError):
            check_reads_only(spark, query, command="write-subset", shows=False)
