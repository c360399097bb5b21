"""samples + captions + scores → views: `recap_datacomp` and the table function `mixed_captions(p, seed,
epoch)`
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recap_spark.draw import draw_sql
from recap_spark.lake.lake import Lake
from recap_spark.lake.statements import literal
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.stages.score import scorer_spec
from recap_spark.statuses import CaptionStatus
from recap_spark.tables import CAPTIONS, IMAGES, ORIGINAL, RATINGS, SAMPLES, SCORES
from recap_spark.workers.captioning.engines import captioner_spec, describe

log = logging.getLogger(__name__)

RECAP_DATACOMP = "recap_datacomp"
MIXED_CAPTIONS = "mixed_captions"


@dataclass(frozen=True)
class Mixture:
    """One draw: p is the probability of the original caption (Recap-DataComp-1B, section 5)."""

    p: float
    seed: int
    epoch: int


def mix_captions(pairs: DataFrame, mixture: Mixture) -> DataFrame:
    """Give each row of `uid, org_caption, re_caption` the caption it is trained on, and say where that is
    from.

    `source` is original or recaption, or fallback where the drawn one is missing and the other stands in.
    """
    chosen, source = _choice_sql(
        p=str(mixture.p) + "D", seed=str(mixture.seed), epoch=str(mixture.epoch), row=""
    )
    return pairs.withColumns({"caption": F.expr(chosen), "source": F.expr(source)})


def run(lake: Lake, settings: Settings, progress: Progress) -> int:
    """Define the views over the tables; a view stores no rows of its own.

    Returns the number of views.
    """
    lake.create(SAMPLES, IMAGES, CAPTIONS, SCORES, RATINGS)
    captioner = view_captioner(settings)
    select = view_sql(lake, captioner=captioner, settings=settings)
    lake.define_view(RECAP_DATACOMP, select, columns=_VIEW_COLUMNS, comment=_VIEW_COMMENT)
    if not lake.keeps_functions():
        found = "lake.namespace: null: the view ends with this session, and there is no table function"
        log.warning(
            "mix: want a catalog to keep %s and %s in, found %s", RECAP_DATACOMP, MIXED_CAPTIONS, found
        )
        return 1
    lake.define_function(MIXED_CAPTIONS, function_sql(lake, captioner=captioner))
    return 2


_VIEW_COMMENT = "The published dataset's columns and types, of every sample with a recaption"
_VIEW_COLUMNS = {
    "url": "where the image was",
    "re_caption": "the recaption, by the captioner that conf names",
    "org_caption": "alt-text, byte escapes repaired; null when the page had none",
    "sha256": "of the image's bytes: those received, else those expected; null when unknown",
    "key": "uid of the sample",
    "re_clip_score": "cosine of image and recaption, by the scorer that conf names; null when not scored",
    "org_clip_score": "as re_clip_score, of the alt-text",
    "re_length": "words of the recaption, told apart by white space",
    "org_length": "as re_length, of the alt-text",
    "re_gpt4v_score": "published rating of the recaption, 1 to 5; null when not rated",
    "org_gpt4v_score": "as re_gpt4v_score, of the alt-text",
}
_FUNCTION_COLUMNS = {
    "uid": "of the sample",
    "url": "where the image was",
    "caption": "the one that is drawn, or the other where that one is missing",
    "source": "original, recaption, or fallback where the drawn one is missing",
    "org_caption": "alt-text; null when the page had none",
    "re_caption": "the recaption; null when there is none",
}


# A share of 1.5, or none, would draw something all the same, and nobody would see what.
_CHECKED = f"""
    CASE WHEN {MIXED_CAPTIONS}.p BETWEEN 0 AND 1 AND {MIXED_CAPTIONS}.seed IS NOT NULL
              AND {MIXED_CAPTIONS}.epoch IS NOT NULL THEN true
         ELSE raise_error('{MIXED_CAPTIONS}: want p from 0 to 1, and a seed and an epoch') END"""


def view_captioner(settings: Settings) -> str:
    """The key of the captioner whose captions the views show: the view's own, else that of the captioner in
    conf.
    """
    if settings.export.view.captioner is not None:
        return settings.export.view.captioner
    return str(describe(captioner_spec(settings.caption))["captioner"])


def view_scorer(settings: Settings, *, captioner: str) -> str:
    """The key of the scorer whose scores the views show: of published captions the published one, else the
    one that conf names.
    """
    if captioner == settings.ingest.published_captioner:
        return settings.ingest.published_scorer
    return scorer_spec(settings.score).name


def view_sql(lake: Lake, *, captioner: str, settings: Settings) -> str:
    """`recap_datacomp`: the published dataset's columns and types, of every sample with a recaption."""
    scorer = view_scorer(settings, captioner=captioner)
    judge = settings.ingest.published_judge
    score = "(SELECT uid, CAST(cosine AS DOUBLE) AS value FROM {} WHERE captioner = {} AND scorer = {})"
    rating = "(SELECT uid, CAST(rating AS BIGINT) AS value FROM {} WHERE captioner = {} AND judge = {})"
    re_score = score.format(lake.name(SCORES.name), literal(captioner), literal(scorer))
    org_score = score.format(lake.name(SCORES.name), literal(ORIGINAL), literal(scorer))
    re_rating = rating.format(lake.name(RATINGS.name), literal(captioner), literal(judge))
    org_rating = rating.format(lake.name(RATINGS.name), literal(ORIGINAL), literal(judge))
    return f"""
        SELECT s.url, c.caption AS re_caption, s.org_caption,
               coalesce(i.sha256, s.sha256) AS sha256, s.uid AS key,
               rs.value AS re_clip_score, os.value AS org_clip_score,
               {_words("c.caption")} AS re_length, {_words("s.org_caption")} AS org_length,
               rr.value AS re_gpt4v_score, orr.value AS org_gpt4v_score
        FROM {lake.name(SAMPLES.name)} s
        JOIN {_recaptions(lake, captioner)} c ON s.uid = c.uid
        LEFT JOIN (SELECT uid, sha256 FROM {lake.name(IMAGES.name)}) i ON s.uid = i.uid
        LEFT JOIN {re_score} rs ON s.uid = rs.uid LEFT JOIN {org_score} os ON s.uid = os.uid
        LEFT JOIN {re_rating} rr ON s.uid = rr.uid LEFT JOIN {org_rating} orr ON s.uid = orr.uid"""


def function_sql(lake: Lake, *, captioner: str) -> str:
    """`mixed_captions(p, seed, epoch)`: every sample that has a caption, with the one it is drawn for that
    epoch.
    """
    arguments = {name: f"{MIXED_CAPTIONS}.{name}" for name in ("p", "seed", "epoch")}
    caption, source = _choice_sql(**arguments, row="m.")
    returned = ", ".join(f"{name} STRING COMMENT {literal(said)}" for name, said in _FUNCTION_COLUMNS.items())
    return f"""
        (p DOUBLE COMMENT 'probability of the original caption, 0 to 1',
         seed BIGINT COMMENT 'another seed draws anew',
         epoch BIGINT COMMENT 'each epoch draws anew; the first one is 0')
        RETURNS TABLE ({returned})
        COMMENT 'One caption a sample, drawn anew each epoch: original with probability p, else the recaption'
        RETURN SELECT m.uid, m.url, {caption}, {source}, m.org_caption, m.re_caption
        FROM (SELECT s.uid, s.url, s.org_caption, c.caption AS re_caption
              FROM {lake.name(SAMPLES.name)} s LEFT JOIN {_recaptions(lake, captioner)} c ON s.uid = c.uid
              WHERE (s.org_caption IS NOT NULL OR c.caption IS NOT NULL) AND {_CHECKED}) m"""


def _choice_sql(*, p: str, seed: str, epoch: str, row: str) -> tuple[str, str]:
    drawn = draw_sql(f"{row}uid", seed=seed, epoch=epoch)
    original, recaption = f"{row}org_caption", f"{row}re_caption"
    preferred = f"CASE WHEN {drawn} < {p} THEN {original} ELSE {recaption} END"
    caption = f"coalesce({preferred}, {original}, {recaption})"
    missing = f"({drawn} < {p} AND {original} IS NULL) OR ({drawn} >= {p} AND {recaption} IS NULL)"
    source = f"CASE WHEN {missing} THEN 'fallback' WHEN {drawn} < {p} THEN 'original' ELSE 'recaption' END"
    return caption, source


def _recaptions(lake: Lake, captioner: str) -> str:
    ok = f"captioner = {literal(captioner)} AND status = {literal(str(CaptionStatus.OK))}"
    return f"(SELECT uid, caption FROM {lake.name(CAPTIONS.name)} WHERE {ok})"


def _words(text: str) -> str:
    """Length in words, the unit in which the published means are 10.22 and 49.43 (Recap-DataComp-1B, section
    4).
    """
    return f"CAST(size(split(trim({text}), '\\\\s+')) AS BIGINT)"
