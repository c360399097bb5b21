"""samples + images + captions → how far each conversation template repeats the published captions"""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from rich.table import Table as PrintedTable

from recap_spark.errors import InputError
from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake
from recap_spark.machine.device import check_access
from recap_spark.settings.schema import Settings
from recap_spark.settings.template import Template
from recap_spark.stages.caption.caption import caption_images, journal_folder
from recap_spark.statuses import CaptionStatus, FetchStatus
from recap_spark.tables import CAPTIONS, IMAGES, SAMPLES
from recap_spark.workers.captioning.agreement import Agreement, rank
from recap_spark.workers.captioning.captioner import CaptionerSpec
from recap_spark.workers.captioning.journal import Journal

log = logging.getLogger(__name__)

OWN = "the model's own"


def published_pairs(
    samples: DataFrame, images: DataFrame, captions: DataFrame, *, captioner: str, count: int
) -> DataFrame:
    """`uid, caption` of at most `count` published captions whose stored image is the one they were made of:
    its bytes have the sha256 that the samples promise. The smallest uids are taken, so every run takes the
    same.
    """
    promised = samples.select("uid", F.lower("sha256").alias("promised"))
    fetched = images.where(F.col("status") == str(FetchStatus.OK)).select("uid", "sha256")
    unchanged = fetched.join(promised, on="uid", how="inner").where(F.col("promised") == F.lower("sha256"))
    is_published = (F.col("captioner") == captioner) & (F.col("status") == str(CaptionStatus.OK))
    published = captions.where(is_published).select("uid", "caption")
    return published.join(unchanged, on="uid", how="left_semi").orderBy("uid").limit(count)


def rank_templates(lake: Lake, settings: Settings) -> list[Agreement]:
    """Caption the same images under every template of conf, and under the model's own where it has one.

    Templates run one after the other, because a worker holds one captioner at a time. Raises InputError where
    the lake has no published caption to compare with, PlatformError as `check_access` does.
    """
    check_access(lake.spark, wanted=settings.caption.device, by="calibrate")
    source = settings.ingest.published_captioner
    samples, images, captions = (lake.read(table) for table in (SAMPLES, IMAGES, CAPTIONS))
    pairs = published_pairs(
        samples, images, captions, captioner=source, count=settings.calibrate.pairs
    ).collect()
    if not pairs:
        raise InputError(
            f"calibrate: want captions of {source!r} whose images have the promised sha256, found none: "
            "ingest the published rows (ingest.layout: recap) and fetch their images first"
        )
    published = {row["uid"]: row["caption"] for row in pairs}
    chosen = frame_of(lake.spark, [(uid,) for uid in published], T.StructType().add("uid", T.StringType()))
    rows = images.select("uid", "bytes").join(F.broadcast(chosen), on="uid", how="left_semi")
    tasks = -(-len(published) // settings.caption.batch_size)
    rows = rows.repartition(tasks).persist()
    try:
        return rank(_captions(rows, settings), published)
    finally:
        rows.unpersist()


def ranking_table(ranking: list[Agreement]) -> PrintedTable:
    """The ranking as a terminal shows it."""
    table = PrintedTable("template", "exact", "ROUGE-L", "captions")
    for row in ranking:
        table.add_row(row.template, f"{row.exact:.1%}", f"{row.rouge_l:.3f}", str(row.captions))
    return table


def _captions(rows: DataFrame, settings: Settings) -> dict[str, dict[str, str]]:
    captioner = CaptionerSpec(settings.caption).captioner
    templates: dict[str, Template | None] = {
        template.label(): template for template in settings.calibrate.templates.values()
    }
    if captioner.parts is None:
        templates[OWN] = None
    made = {}
    journal = Journal(f"{journal_folder(settings)}/calibrate")
    device = settings.caption.device
    for label, template in templates.items():
        spec = CaptionerSpec(settings.caption.with_captioner(template=template))
        answered = caption_images(rows, captioner=spec, key=label, device=device, journal=journal)
        said = answered.where(F.col("status") == str(CaptionStatus.OK)).select("uid", "caption").collect()
        made[label] = {row["uid"]: row["caption"] for row in said}
        log.info("calibrate: %s made %d captions", label, len(said))
    journal.clear()
    return made
