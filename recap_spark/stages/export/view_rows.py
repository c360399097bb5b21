"""samples + images + captions + scores → the rows of a view, and why every other sample is none of them"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recap_spark.lake.lake import Lake
from recap_spark.settings.schema import ViewSettings
from recap_spark.stages.mix import Mixture, mix_captions
from recap_spark.statuses import CaptionStatus, FetchStatus, LeftOut
from recap_spark.tables import CAPTIONS, IMAGES, ORIGINAL, SAMPLES, SCORES
from recap_spark.workers.shards.export_layout import COSINES, Fields, caption_of, source_of


@dataclass(frozen=True, kw_only=True)
class View:
    """A view over the tables as they were at these versions."""

    settings: ViewSettings
    captioner: str
    scorer: str | None  # whose cosines the rows have; None: they have none
    versions: Mapping[str, int]  # of each table's last commit, by name

    @property
    def fields(self) -> Fields:
        return Fields(epochs=self.settings.epoch, scored=self.scorer is not None)


def judged_samples(lake: Lake, view: View) -> DataFrame:
    """Every sample with its texts and with its picture's status, without the picture. `left_out` is the
    reason why it is no row of the view, null where it is one.
    """
    # Whether there are captions is told before the joins: to count reasons, no text is carried through them.
    samples = lake.read_at(SAMPLES, view.versions[SAMPLES.name]).select(
        "uid", "url", "org_caption", F.col("org_caption").isNotNull().alias("has_original")
    )
    is_recaption = (F.col("captioner") == view.captioner) & (F.col("status") == str(CaptionStatus.OK))
    recaptions = (
        lake.read_at(CAPTIONS, view.versions[CAPTIONS.name])
        .where(is_recaption)
        .select(
            "uid", F.col("caption").alias("re_caption"), F.col("caption").isNotNull().alias("has_recaption")
        )
    )
    pictures = lake.read_at(IMAGES, view.versions[IMAGES.name]).select(
        "uid", "status", "sha256_matches", "sha256", "format"
    )
    joined = samples.join(recaptions, on="uid", how="left").join(pictures, on="uid", how="left")
    return joined.withColumn("left_out", _why_left_out(view.settings.sha256))


def rows_of_view(lake: Lake, judged: DataFrame, view: View) -> DataFrame:
    """The judged samples that are rows, with the captions to draw from and their cosines."""
    # The status once more, for it lets Spark join no sample without a picture.
    is_row = F.col("left_out").isNull() & (F.col("status") == str(FetchStatus.OK))
    rows = judged.where(is_row).withColumn("captioner", F.when(F.col("has_recaption"), F.lit(view.captioner)))
    if view.scorer is not None:
        rows = rows.join(_cosines(lake, view, view.scorer), on="uid", how="left")
    return rows.drop("left_out", "has_original", "has_recaption", "status", "sha256_matches")


def draw_captions(rows: DataFrame, view: View) -> DataFrame:
    """Give each row the caption of the first epoch and its source, and where there are several epochs those
    of each in columns of their own.
    """
    for epoch in view.fields.own_epochs:
        drawn = mix_captions(rows, _mixture(view, epoch))
        rows = drawn.withColumnsRenamed({"caption": caption_of(epoch), "source": source_of(epoch)})
    return mix_captions(rows, _mixture(view, view.settings.epoch[0]))


def _why_left_out(sha256: str) -> Column:
    matches = F.col("sha256_matches")
    is_refused = (matches == F.lit(False)) & F.lit(sha256 != "any")
    is_doubtful = matches.isNull() & F.lit(sha256 == "match")
    has_caption = F.col("has_original") | F.coalesce("has_recaption", F.lit(False))
    return (
        F.when(F.col("status").isNull(), str(LeftOut.NOT_FETCHED))
        .when(F.col("status") != str(FetchStatus.OK), F.col("status"))
        .when(is_refused, str(LeftOut.SHA256_MISMATCH))
        .when(is_doubtful, str(LeftOut.SHA256_UNKNOWN))
        .when(~has_caption, str(LeftOut.NO_CAPTION))
    )


def _cosines(lake: Lake, view: View, scorer: str) -> DataFrame:
    """One row for each uid with a score, its columns COSINES."""
    scored = F.col("captioner").isin(ORIGINAL, view.captioner) & (F.col("scorer") == scorer)
    scores = lake.read_at(SCORES, view.versions[SCORES.name]).where(scored)
    original, recaption = (
        F.max(F.when(F.col("captioner") == captioner, F.col("cosine"))).alias(name)
        for captioner, name in zip((ORIGINAL, view.captioner), COSINES, strict=True)
    )
    return scores.groupBy("uid").agg(original, recaption)


def _mixture(view: View, epoch: int) -> Mixture:
    return Mixture(view.settings.p, view.settings.seed, epoch)
