"""Commands that read take queries alone, and refuse anything else before it runs."""

import pytest
from pyspark.sql import SparkSession

from recap_spark.errors import InputError
from recap_spark.machine.read_only import query

pytestmark = pytest.mark.spark

WRITES = [
    "DELETE FROM t",
    "INSERT INTO t SELECT 1",
    "INSERT OVERWRITE t VALUES (1)",
    "WITH some AS (SELECT 1 AS a) INSERT INTO t SELECT * FROM some",
    "FROM t INSERT INTO t SELECT * INSERT INTO t SELECT a + 1",
    "UPDATE t SET a = 2",
    "MERGE INTO t USING t AS u ON t.a = u.a WHEN MATCHED THEN DELETE",
    "CREATE TABLE u AS SELECT 1",
    "CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1",
    "DROP TABLE t",
    "TRUNCATE TABLE t",
    "ALTER TABLE t SET TBLPROPERTIES ('a' = 'b')",
    "OPTIMIZE t",
    "VACUUM t",
    "SET spark.sql.ansi.enabled = false",
    "USE default",
    "CACHE TABLE t",
    "BEGIN DELETE FROM t; END",
    "SELECT TRANSFORM (a) USING 'cat' AS b FROM t",
    "CALL system.purge()",
]
QUERIES = [
    "SELECT a FROM t ORDER BY a",
    "WITH some AS (SELECT a FROM t) SELECT * FROM some",
    "SELECT a FROM t WHERE a IN (SELECT a FROM t)",
    "FROM t SELECT a",
    "VALUES (1), (2)",
    "TABLE t",
    "SELECT 'DELETE FROM t' AS a",
    "SELECT a FROM t UNION ALL SELECT a FROM t;",
]


@pytest.fixture(scope="module")
def table(spark: SparkSession):
    spark.range(3).selectExpr("id AS a").createOrReplaceTempView("t")
    yield
    spark.catalog.dropTempView("t")


@pytest.mark.parametrize("text", WRITES)
def test_what_is_no_query_is_refused_before_it_runs(spark, table, text):
    for tells in (True, False):
        with pytest.raises(InputError, match="query"):
            query(spark, text, tells=tells)


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_gives_its_rows(spark, table, text):
    assert query(spark, text, tells=False).count() >= 1


@pytest.mark.parametrize("text", ["EXPLAIN DELETE FROM t", "DESCRIBE t", "SHOW TABLES", "SHOW COLUMNS IN t"])
def test_what_only_tells_is_taken_where_people_look_and_refused_where_rows_are_wanted(spark, table, text):
    assert query(spark, text, tells=True).columns
    with pytest.raises(InputError, match="want a query"):
        query(spark, text, tells=False)


def test_a_table_that_is_not_there_is_an_error_of_one_line_in_front(spark):
    with pytest.raises(InputError, match="nowhere"):
        query(spark, "SELECT * FROM nowhere", tells=True)
