"""tables → what a run came to, on one screen"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from recap_spark.lake.lake import Lake
from recap_spark.stages.mix import RECAP_DATACOMP
from recap_spark.tables import SCORES

_LONGEST_SHOWN = 160


def show_summary(
    lake: Lake,
    counts: Mapping[str, Mapping[str, int]],
    *,
    captioner: str,
    scorer: str,
    console: Console,
) -> None:
    """Print the counts of every stage, ten captions beside their alt-texts, and what sets the two apart."""
    console.print(_stages(counts))
    view = lake.spark.read.table(lake.name(RECAP_DATACOMP))
    console.print(_samples(view))
    ours = (F.col("captioner") == captioner) & (F.col("scorer") == scorer)
    console.print(_comparison(view, lake.read(SCORES).where(ours)))


def _stages(counts: Mapping[str, Mapping[str, int]]) -> Grid:
    grid = Grid("stage", "rows", "by status", title="Rows by stage")
    for stage, ends in counts.items():
        grid.add_row(
            stage,
            str(sum(ends.values())),
            ", ".join(f"{name} {count}" for name, count in ends.items() if count),
        )
    return grid


def _samples(view: DataFrame) -> Grid:
    grid = Grid("alt-text", "recaption", title="Ten samples", show_lines=True)
    for row in view.select("org_caption", "re_caption").orderBy("key").limit(10).collect():
        # Alt-text is whatever a page said: brackets would be taken for markup.
        grid.add_row(escape((row["org_caption"] or "")[:_LONGEST_SHOWN]), escape(row["re_caption"]))
    return grid


def _comparison(view: DataFrame, scores: DataFrame) -> Grid:
    lengths = view.agg(F.avg("org_length").alias("original"), F.avg("re_length").alias("recaption")).first()
    original, recaption = vocabulary_shares(view)
    preferred = scores.agg(F.avg("pair_preference").alias("share")).first()
    grid = Grid("", "original", "recaption", title="Captions compared")
    if lengths is None or None in lengths:
        return grid
    grid.add_row("mean length, words", f"{lengths['original']:.2f}", f"{lengths['recaption']:.2f}")
    grid.add_row("share of the joint vocabulary", f"{original:.1%}", f"{recaption:.1%}")
    if preferred is not None and preferred["share"] is not None:
        grid.add_row("CLIP's pair preference", f"{1 - preferred['share']:.1%}", f"{preferred['share']:.1%}")
    return grid


def vocabulary_shares(view: DataFrame) -> tuple[float, float]:
    """Shares of the union vocabulary that original and recaptions hold (Recap-DataComp-1B, section 4)."""
    original, recaption = (_words(view, column) for column in ("org_caption", "re_caption"))
    union = original.union(recaption).distinct().count()
    return (original.count() / union, recaption.count() / union) if union else (0.0, 0.0)


def _words(view: DataFrame, column: str) -> DataFrame:
    words = F.explode(F.split(F.lower(F.col(column)), r"[^\p{L}\p{N}']+"))
    return view.select(words.alias("word")).where(F.col("word") != "").distinct()
