"""images + samples + captions → scores"""

from __future__ import annotations

import hashlib
import json
from functools import partial

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recap_spark.lake.lake import Lake
from recap_spark.machine.device import task_device, task_profile
from recap_spark.machine.worker_daemon import models_imported
from recap_spark.progress import Progress
from recap_spark.settings.schema import ScoreSettings, Settings
from recap_spark.stages.prechecks import ask_a_worker
from recap_spark.stages.units import Job, run_units
from recap_spark.statuses import CaptionStatus, FetchStatus
from recap_spark.tables import CAPTIONS, IMAGES, ORIGINAL, SAMPLES, SCORES
from recap_spark.workers.partition import run_partition
from recap_spark.workers.scoring.precheck import check_partition
from recap_spark.workers.scoring.scorer import ScorerSpec, answer_scores, prepare_pairs
from recap_spark.workers.weights import weights_sha256

_INPUTS = (SAMPLES, CAPTIONS, IMAGES)


def scorer_spec(settings: ScoreSettings) -> ScorerSpec:
    """The scorer that conf names, as workers load it. Its name contains a fingerprint of its weights and
    settings, so a change of either makes another scorer.
    """
    made_of = settings.scorer.model_dump() | {"weights_sha256": weights_sha256(settings.scorer.model)}
    fingerprint = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    name = f"{settings.scorer.name}-{fingerprint[:12]}"
    return ScorerSpec(settings=settings, name=name, original=ORIGINAL)


def texts(samples: DataFrame, captions: DataFrame, images: DataFrame) -> DataFrame:
    """Every caption of every fetched image as `uid, captioner, caption`; the alt-text is captioner
    'original'.
    """
    fetched = images.where(F.col("status") == str(FetchStatus.OK)).select("uid")
    originals = samples.where(F.col("org_caption").isNotNull()).select(
        "uid", F.lit(ORIGINAL).alias("captioner"), F.col("org_caption").alias("caption")
    )
    usable = captions.where(F.col("status") == str(CaptionStatus.OK)).select("uid", "captioner", "caption")
    return originals.union(usable).join(fetched, on="uid", how="left_semi")


def score_captions(images: DataFrame, captions: DataFrame, *, scorer: ScorerSpec, device: str) -> DataFrame:
    """Score `uid, captioner, caption` against the images' bytes, one row each."""
    by_image = captions.groupBy("uid").agg(F.collect_list(F.struct("captioner", "caption")).alias("captions"))
    # Captions are small beside the images, which stay where they are.
    pairs = images.select("uid", "bytes").join(F.broadcast(by_image), on="uid", how="inner")
    runner = partial(
        run_partition,
        spec=scorer,
        device=partial(task_device, device),
        prepare=prepare_pairs,
        answer=answer_scores,
    )
    spark = images.sparkSession
    with models_imported(spark):
        return pairs.mapInArrow(runner, SCORES.loose, profile=task_profile(spark, device))


def check_worker(spark: SparkSession, *, scorer: ScorerSpec, device: str) -> None:
    """Let one worker look at what a scorer wants. Raises WeightsError or PlatformError."""
    check = partial(check_partition, spec=scorer, device=partial(task_device, device))
    ask_a_worker(spark, check, device=device, libraries=models_imported(spark))


def run(lake: Lake, settings: Settings, progress: Progress) -> int:
    """Score the captions that this scorer has not scored yet. Returns the rows that were to do."""
    lake.create(CAPTIONS, SCORES)
    scorer = scorer_spec(settings.score)

    versions = {table.name: lake.version(table) for table in _INPUTS}

    def asked() -> DataFrame:
        samples, captions, images = (lake.read_at(table, versions[table.name]) for table in _INPUTS)
        return texts(samples, captions, images)

    def work(rows: DataFrame, within: Column) -> DataFrame:
        # A new caption is weighed against the original, which may have its own score already.
        wanted = rows.select("uid", "captioner")
        uids = F.broadcast(wanted.select("uid").distinct())
        rivals = asked().where(within).join(uids, on="uid", how="left_semi")
        images = (
            lake.read_at(IMAGES, versions[IMAGES.name]).where(within).join(uids, on="uid", how="left_semi")
        )
        if settings.score.work.tasks_per_unit:
            images = images.repartition(settings.score.work.tasks_per_unit)
        scores = score_captions(images, rivals, scorer=scorer, device=settings.score.device)
        return scores.join(F.broadcast(wanted), on=["uid", "captioner"], how="left_semi")

    job = Job(
        stage="score",
        target=SCORES,
        asked=asked,
        answered=lambda: lake.read(SCORES).where(F.col("scorer") == scorer.name).select("uid", "captioner"),
        work=work,
        fingerprint=f"{lake.identity(IMAGES)}/{scorer.name}",
        before=partial(check_worker, lake.spark, scorer=scorer, device=settings.score.device),
    )
    return run_units(lake, job, settings=settings.score.work, progress=progress)
