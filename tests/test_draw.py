"""The draw is one rule in every language."""

import hashlib
from itertools import product

import duckdb
import pytest
from pyspark.sql import functions as F

from recap_spark.draw import draw, draw_sql, keeps_original

UIDS = [hashlib.md5(str(number).encode()).hexdigest() for number in range(2_000)]


def test_a_larger_p_keeps_every_earlier_original():
    few = {uid for uid in UIDS if keeps_original(uid, p=0.3, seed=7, epoch=0)}
    many = {uid for uid in UIDS if keeps_original(uid, p=0.8, seed=7, epoch=0)}
    assert few < many


@pytest.mark.parametrize("p", [0.0, 0.2, 0.8, 1.0])
def test_p_is_the_share_of_originals(p):
    kept = sum(keeps_original(uid, p=p, seed=7, epoch=0) for uid in UIDS)
    # Five standard deviations of a binomial of 2,000: about 0.05.
    assert abs(kept / len(UIDS) - p) < 0.05
    if p in {0.0, 1.0}:
        assert kept == p * len(UIDS)


def test_an_epoch_redraws_and_a_rerun_does_not():
    first, again, next_epoch = ([draw(uid, seed=7, epoch=epoch) for uid in UIDS] for epoch in (0, 0, 1))
    assert first == again
    assert all(one != other for one, other in zip(first, next_epoch, strict=True))


def test_duckdb_draws_the_same_numbers():
    """Any engine with md5 can tell which caption a sample had: here in plain DuckDB SQL."""
    expression = "('0x' || substr(md5(concat_ws(':', uid, 7, 3)), 1, 13))::BIGINT / 4503599627370496"
    query = f"SELECT {expression} FROM (SELECT unnest($uids) AS uid)"
    drawn = duckdb.execute(query, {"uids": UIDS}).fetchall()
    assert [row[0] for row in drawn] == [draw(uid, seed=7, epoch=3) for uid in UIDS]


@pytest.mark.spark
def test_spark_draws_the_same_caption_for_100_000_uids_three_seeds_and_three_epochs(spark):
    uids = spark.range(100_000).select(F.md5(F.col("id").cast("string")).alias("uid"))
    cases = list(product((0, 7, -123_456_789), (0, 1, 31)))
    columns = [F.expr(draw_sql("uid", seed=str(s), epoch=str(e))).alias(f"{s}/{e}") for s, e in cases]
    drawn = uids.select("uid", *columns).toPandas()
    for seed, epoch in cases:
        expected = [draw(uid, seed=seed, epoch=epoch) for uid in drawn["uid"]]
        assert drawn[f"{seed}/{epoch}"].tolist() == expected
