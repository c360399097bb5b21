"""metadata files → samples + rejects (+ captions, scores and ratings, where the files are a published
recaptioning)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from recap_spark.errors import AccountingError
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.session import session_conf
from recap_spark.progress import Progress
from recap_spark.settings.ingest import IngestSettings
from recap_spark.settings.schema import Settings
from recap_spark.stages.ingest.checks import readable, reject_reason, repaired
from recap_spark.stages.ingest.deduplication import Outcome, contested_hashes, settle, uid_hash
from recap_spark.stages.ingest.files import Survey, list_files, over_sound_files, survey_files
from recap_spark.stages.ingest.layouts import LAYOUTS
from recap_spark.stages.ingest.metadata import MENDED, read_rows
from recap_spark.stages.ingest.outcomes import count_outcomes, ended_as, rejects_of
from recap_spark.stages.ingest.published import add_published, identify, settle_published
from recap_spark.stages.ingest.rejects import is_unsaid, refuse, refused_files, retract
from recap_spark.stages.ingest.selection import Selection, select_from, selected
from recap_spark.tables import CAPTIONERS, CAPTIONS, IMAGES, RATINGS, REJECTS, SAMPLES, SCORES
from recap_spark.workers.partition import ahead

_NO_ENDS = frozenset({Outcome.DISPLACED, *MENDED})
_BROADCAST_HASHES = 1_000_000  # some 30 MB on every executor


def checked_rows(rows: DataFrame, *, longest_text: int) -> DataFrame:
    """Metadata rows with `reason`, null for a good row."""
    trimmed = rows.withColumn("url", F.trim("url"))  # a step of its own, or Spark would trim at every use
    return trimmed.withColumn("reason", reject_reason(longest_text=longest_text))


@dataclass(frozen=True)
class Incoming:
    """Checked rows on their way into samples."""

    rows: DataFrame
    caption_cap: int
    again: tuple[str, ...]  # files of which rejects may say what no longer holds
    unsaid: Callable[[], bool]  # whether rejects holds nothing of the rows' files

    def as_samples(self, rows: DataFrame) -> DataFrame:
        """Some of the rows, checked in the shape of samples, with `reason`, `raw` and marks of repairs."""
        others = (name for name in SAMPLES.schema.names if name != "org_caption")
        caption = readable(F.col("text"), cap=self.caption_cap).alias("org_caption")
        # In two steps: Spark computes a column once for all that look at it, an expression at every look.
        repaired_rows = rows.withColumn("text", repaired(F.col("text")))
        return repaired_rows.select(*others, caption, "reason", "raw", *MENDED)


def run(lake: Lake, settings: Settings, progress: Progress) -> Counter[str]:
    """Ingest the rows that are not stored yet. Returns the number of rows by what became of them.

    Raises AccountingError where the number of rows in the files differs from the number accounted for.
    """
    asked, step = settings.ingest, settings.ingest.files_per_commit
    files = list_files(lake.spark, asked.source)
    selection = select_from(lake.spark, asked, files)
    parts = [files[first : first + step] for first in range(0, len(files), step)]
    looks = (survey_files(lake.spark, part, LAYOUTS[asked.layout]) for part in parts)
    counts: Counter[str] = Counter()
    conf = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(asked.rows_per_batch),
        "spark.sql.caseSensitive": "true",  # a file may have both url and URL
    }
    with (
        session_conf(lake.spark, conf),
        progress.stage("ingest", rows=len(files), unit="files") as advance,
        # The next files' footers are read meanwhile: on an object store each is a wait of its own.
        closing(ahead(looks, size=1)) as surveys,
        ThreadPoolExecutor(1) as beside,
    ):
        made = beside.submit(lake.create, SAMPLES, REJECTS)  # while the first footers are read
        for number, (part, survey) in enumerate(zip(parts, surveys, strict=True)):
            made.result()
            work = partial(_ingest_files, lake, asked, selection)
            counts += over_sound_files(lake.spark, survey, work)
            advance(len(part), note=f"files {number * step} to {number * step + len(part) - 1}")
    return counts


def _ingest_files(
    lake: Lake, settings: IngestSettings, selection: Selection | None, survey: Survey
) -> Counter[str]:
    if survey.refused:
        lake.upsert(REJECTS, refused_files(lake, survey))
    if not survey.readable:
        return survey.refusals
    rows = read_rows(lake.spark, survey, LAYOUTS[settings.layout])
    found = sum(survey.rows.values())
    with ThreadPoolExecutor(1) as beside:
        unsaid = beside.submit(is_unsaid, lake, survey.files).result
        again = tuple(survey.files)
        if settings.layout == "recap":
            counts = _ingest_published(lake, settings, rows, again=again, unsaid=unsaid)
        else:
            with selected(lake, rows, selection, unsaid=unsaid) as (wanted, left_out):
                checked = checked_rows(wanted, longest_text=settings.longest_text)
                incoming = Incoming(checked, caption_cap=settings.caption_cap, again=again, unsaid=unsaid)
                version, rivals = lake.as_of_now(SAMPLES)
                counts = left_out + _ingest_rows(lake, incoming, rivals=rivals, version=version)
        answered = _answered(counts)
        if found != answered:
            held = f"{found} rows in {len(survey.files)} files"
            raise AccountingError(f"ingest: {held}, {answered} accounted for: {dict(counts)}")
    return counts + survey.refusals


def _ingest_published(
    lake: Lake,
    settings: IngestSettings,
    rows: DataFrame,
    *,
    again: tuple[str, ...],
    unsaid: Callable[[], bool],
) -> Counter[str]:
    """Adds captions to the samples that are stored, and samples where there are none."""
    lake.create(CAPTIONS, CAPTIONERS, SCORES, RATINGS)
    # Spark makes a cache anew when a table it was read from is written: so all is read as it was at first.
    version, samples = lake.as_of_now(SAMPLES)
    _, captions = lake.as_of_now(CAPTIONS)
    captions = captions.where(F.col("captioner") == settings.published_captioner)
    checked = checked_rows(identify(rows, samples), longest_text=settings.longest_text)
    settled = settle_published(checked, samples=samples, captions=captions).persist()
    try:
        is_kept = F.col("reason").isNull()
        is_held = is_kept & F.col("is_stored")
        held = settled.where(is_held).count()
        fresh = settled.where(~is_held)
        incoming = Incoming(fresh, caption_cap=settings.caption_cap, again=again, unsaid=unsaid)
        counts = _ingest_rows(lake, incoming, rivals=samples.limit(0), version=version)
        add_published(lake, settled.where(is_kept), settings=settings)
    finally:
        settled.unpersist()
    return counts + Counter({str(Outcome.HELD): held})


def _ingest_rows(lake: Lake, incoming: Incoming, *, rivals: DataFrame, version: int) -> Counter[str]:
    """Store good rows whose uid no other row claims as they are; settle the others, which are few.

    `rivals` are rows of samples as of `version`: if another ingest has committed since then, ours is refused.
    """
    special, claims, settled = _settle_special(incoming, rivals)
    counts = count_outcomes(special, settled)
    specials = _answered(counts)
    displaces, winners = counts[Outcome.DISPLACED] > 0, counts.pop(Outcome.ADDED, 0)
    rejects = rejects_of(special, claims, settled, rivals)
    retract(lake, rejects, files=() if incoming.unsaid() else incoming.again)
    once = Transaction("ingest", version)
    refusing = partial(refuse, lake, rejects, once=once, unsaid=incoming.unsaid() and not displaces)
    if not displaces and not winners and incoming.rows.count() == specials:
        refusing()  # no commit of samples, not even an empty one
        return counts
    # Whatever shares a uid, or its hash, with a special row is special itself.
    taken = _hinted(special.select(uid_hash().alias("uid_hash")).distinct(), most=specials)
    mended = Observation()
    samples = _samples(incoming, taken, ended_as(claims, settled, Outcome.ADDED), mended=mended)
    with ThreadPoolExecutor(1) as beside:
        # A few rows whose commit is mostly waiting; a rerun writes either table as if for the first time.
        refused = beside.submit(refusing)
        if displaces:
            refused.result()  # what a stored row said has to be in rejects before it is gone
            _displace(lake, settled)
            # By our own deletion: an ingest that begins now sees it, and must not commit beside us.
            version += 1
        added = lake.append(SAMPLES, samples, transaction=Transaction("ingest", version))
        refused.result()
    if added is None:
        raise AccountingError("ingest: another ingest changed samples meanwhile; run this one again")
    # Adding Counters leaves out what was never met.
    return counts + Counter(mended.get) + Counter({str(Outcome.ADDED): added})


def _settle_special(incoming: Incoming, rivals: DataFrame) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Rows that are refused or contested, those of them that claim a uid, and how the claims end."""
    # Checkpoints, not caches: Spark makes a cache anew when a table it was read from is written, and these
    # must not move.
    contested = contested_hashes(incoming.rows.select("uid"), rivals).localCheckpoint()
    hashes = _hinted(contested, most=contested.count())
    special = incoming.as_samples(_refused_or_contested(incoming.rows, hashes)).localCheckpoint()
    claims = special.where(F.col("reason").isNull())
    held = rivals.join(hashes, uid_hash() == F.col("uid_hash"), how="left_semi")
    return special, claims, settle(claims, held).localCheckpoint()


def _answered(counts: Mapping[str, int]) -> int:
    """Rows of the files that have come to an end."""
    return sum(count for outcome, count in counts.items() if outcome not in _NO_ENDS)


def _samples(incoming: Incoming, taken: DataFrame, winners: DataFrame, *, mended: Observation) -> DataFrame:
    """What is added to samples; `mended` counts the marks of those rows that are not special."""
    free = incoming.rows.join(taken, uid_hash() == F.col("uid_hash"), how="left_anti")
    columns = SAMPLES.schema.names
    # Counted while they are written: in a pass of its own, all texts would be read once more.
    marked = incoming.as_samples(free).select(*columns, *MENDED)
    counted = marked.observe(mended, *(F.count_if(name).alias(name) for name in MENDED))
    return counted.select(*columns).unionByName(winners.select(*columns).hint("rebalance"))


def _refused_or_contested(rows: DataFrame, hashes: DataFrame) -> DataFrame:
    """Both kinds in one pass over the files."""
    is_contested = hashes.where(F.col("uid_hash") == F.xxhash64(F.col("uid").outer())).exists()
    return rows.where(F.col("reason").isNotNull() | is_contested)


def _hinted(hashes: DataFrame, *, most: int) -> DataFrame:
    """The hashes with a hint to broadcast them; there are `most` at most. Spark does not know the size of
    rows from a checkpoint, and without the hint would shuffle all metadata to compare it with them.
    """
    return F.broadcast(hashes) if most <= _BROADCAST_HASHES else hashes


def _displace(lake: Lake, settled: DataFrame) -> None:
    """Remove the stored rows that lost, and all that was made from them: it describes another picture."""
    uids = settled.where(F.col("outcome") == str(Outcome.DISPLACED)).select("uid")
    for table in (RATINGS, SCORES, CAPTIONS, IMAGES, SAMPLES):
        if lake.holds(table):
            lake.delete(table, uids)
