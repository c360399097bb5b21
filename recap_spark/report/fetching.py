"""images + samples → how fetching ended: by cause, host, top-level domain and day

The metadata carry no dates, so age is that of our last attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from recap_spark.lake.lake import Lake
from recap_spark.stages.fetch.urls import host, top_level_domain
from recap_spark.statuses import LINK_ROT, PASSING_FAILURES, REFUSED, FetchStatus
from recap_spark.tables import IMAGES, SAMPLES


def tally(images: DataFrame, samples: DataFrame) -> DataFrame:
    """Rows by `host, status, sha256_matches, day`: small beside the tables, and all that the report needs."""
    outcomes = images.select("uid", "status", "sha256_matches", F.to_date("fetched_at").alias("day"))
    hosts = samples.select("uid", host(F.col("url")).alias("host"))
    joined = outcomes.join(hosts, on="uid", how="left")
    return joined.groupBy("host", "status", "sha256_matches", "day").agg(F.count("*").alias("rows"))


def outcomes(tallied: DataFrame, *by: Column | str) -> DataFrame:
    """`rows, success, link_rot, hash_mismatch` of each group, the largest first.

    success is of all rows; link_rot of those that no rule kept from being fetched; hash_mismatch of those
    that came with a body and had a hash promised. A share of no rows is null.
    """
    is_tried = ~_among(REFUSED)
    return (
        tallied.groupBy(*by)
        .agg(
            F.sum("rows").alias("rows"),
            _share(_among({FetchStatus.OK}), of=F.lit(True)).alias("success"),
            _share(_among(LINK_ROT), of=is_tried).alias("link_rot"),
            _share(~F.col("sha256_matches"), of=F.col("sha256_matches").isNotNull()).alias("hash_mismatch"),
        )
        .orderBy(F.col("rows").desc(), *by)
    )


def by_cause(tallied: DataFrame) -> DataFrame:
    """`status, rows, share, may_pass`, the most frequent first."""
    counted = tallied.groupBy("status").agg(F.sum("rows").alias("rows"))
    total = tallied.agg(F.sum("rows").alias("total"))
    share = (F.col("rows") / F.col("total")).alias("share")
    may_pass = _among(PASSING_FAILURES).alias("may_pass")
    return (
        counted.crossJoin(total).select("status", "rows", share, may_pass).orderBy(F.desc("rows"), "status")
    )


def by_host(tallied: DataFrame, *, most: int) -> DataFrame:
    """Outcomes of the hosts with the most rows."""
    return outcomes(tallied, "host").limit(most)


def by_top_level_domain(tallied: DataFrame, *, most: int) -> DataFrame:
    """Outcomes of the top-level domains with the most rows; '' are addresses and urls without a host."""
    return outcomes(tallied.withColumn("domain", top_level_domain(F.col("host"))), "domain").limit(most)


def by_day(tallied: DataFrame) -> DataFrame:
    """Outcomes by the day (UTC where the session's time zone is) of the last attempt, the oldest first."""
    return outcomes(tallied, "day").orderBy("day")


def show_fetching(lake: Lake, *, hosts: int, console: Console) -> None:
    """Print the report."""
    tallied = tally(lake.read(IMAGES), lake.read(SAMPLES)).persist()
    try:
        console.print(_causes(by_cause(tallied).collect()))
        console.print(_grid("All", {"all": outcomes(tallied).collect()}))
        console.print(_grid("Top-level domains", _named(by_top_level_domain(tallied, most=hosts).collect())))
        console.print(_grid(f"The {hosts} largest hosts", _named(by_host(tallied, most=hosts).collect())))
        console.print(_grid("Day of the last attempt", _named(by_day(tallied).collect())))
    finally:
        tallied.unpersist()


def _causes(rows: Iterable[Row]) -> Grid:
    grid = Grid("cause", "rows", "share", "may pass", title="How fetching ended")
    for row in rows:
        grid.add_row(
            row["status"], f"{row['rows']:,}", f"{row['share']:.1%}", "yes" if row["may_pass"] else ""
        )
    return grid


def _named(rows: Iterable[Row]) -> dict[str, list[Row]]:
    return {str(row[0]): [row] for row in rows}


def _grid(title: str, groups: Mapping[str, Iterable[Row]]) -> Grid:
    grid = Grid("", "rows", "success", "link rot", "other bytes than promised", title=title)
    for name, rows in groups.items():
        for row in rows:
            shares = (_percent(row[measure]) for measure in ("success", "link_rot", "hash_mismatch"))
            grid.add_row(escape(name), f"{row['rows']:,}", *shares)
    return grid


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _among(statuses: Iterable[FetchStatus]) -> Column:
    return F.col("status").isin(*sorted(map(str, statuses)))


def _share(condition: Column, *, of: Column) -> Column:
    counted = F.sum(F.when(of & condition, F.col("rows")).otherwise(0))
    return F.try_divide(counted, F.sum(F.when(of, F.col("rows")).otherwise(0)))
