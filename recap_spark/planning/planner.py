"""rows + GPUs → hours, storage and money of each stage, with the formula of each

Pure arithmetic over conf/planner.yml, whose every figure says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recap_spark.errors import SettingsError
from recap_spark.models.llava.cost import (
    Dimensions,
    caption_flop,
    decode_bytes,
    least_seconds,
    resident_bytes,
)
from recap_spark.planning.figures import Figures, Gpu

_BF16_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What a stage runs on."""

    count: int
    unit: Literal["GPU", "core"]
    usd_per_hour: float  # of one


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stage: its pace, what it takes and what it leaves. Hours are of the clock."""

    stage: str
    images: float
    per_worker: float  # images a second
    workers: Workers
    row_kb: float  # stored for each of `kept`
    kept: float
    formula: str  # of per_worker

    @property
    def images_per_s(self) -> float:
        return self.per_worker * self.workers.count

    @property
    def hours(self) -> float:
        return self.images / self.images_per_s / 3600

    @property
    def worker_hours(self) -> float:
        return self.hours * self.workers.count

    @property
    def stored_tb(self) -> float:
        return self.kept * self.row_kb / 1e9

    @property
    def usd(self) -> float:
        return self.worker_hours * self.workers.usd_per_hour


def plan(figures: Figures, *, rows: float, gpu: str, gpus: int, cores: int) -> tuple[Plan, ...]:
    """The stages in their order. Rows that are not fetched cost nothing after fetch.

    Raises SettingsError for a GPU that the figures do not name, and for one whose memory does not hold the
    captioner.
    """
    if gpu not in figures.gpus:
        raise SettingsError(f"--gpu: want one of {', '.join(sorted(figures.gpus))}, found {gpu}")
    card, storage = figures.gpus[gpu], figures.storage
    slots = engine_slots(figures, gpu)
    on_gpus = Workers(count=gpus, unit="GPU", usd_per_hour=card.usd_per_hour.value)
    on_cores = Workers(count=cores, unit="core", usd_per_hour=figures.usd_per_core_hour.value)
    kept = rows * figures.fetch.success_share.value
    shard_kb = storage.image_kb.value + storage.caption_kb.value
    stages = (  # name, images, images/s of one worker and its formula, workers, kept, KB each
        ("ingest", rows, _ingest(figures), on_cores, rows, storage.sample_kb.value),
        ("fetch", rows, _fetch(figures), on_cores, kept, storage.image_kb.value),
        ("caption", kept, _caption(figures, card, slots=slots), on_gpus, kept, storage.caption_kb.value),
        ("score", kept, _score(figures, card), on_gpus, kept, storage.score_kb.value),
        ("export", kept, _export(figures), on_cores, kept, shard_kb),
    )
    return tuple(
        Plan(
            stage=name,
            images=images,
            per_worker=pace,
            formula=formula,
            workers=workers,
            kept=stored,
            row_kb=row_kb,
        )
        for name, images, (pace, formula), workers, stored, row_kb in stages
    )


def _ingest(figures: Figures) -> tuple[float, str]:
    pace = figures.ingest.rows_per_s_core.value
    return pace, f"{pace:,.0f} rows/s"


def _fetch(figures: Figures) -> tuple[float, str]:
    theirs, ratio = figures.fetch.images_per_s_core.value, figures.fetch.ratio.value
    return theirs * ratio, f"{theirs:g} images/s x {ratio:g}"


def engine_slots(figures: Figures, gpu: str) -> int:
    """How many images the engine decodes at once: as many as conf wants, or as the card's memory holds, by
    the rule that the engine goes by.

    Raises SettingsError where it holds not even one.
    """
    captioner, memory_gb = figures.captioner, figures.gpus[gpu].memory_gb.value
    model = Dimensions(**captioner.model.model_dump())
    prompt = model.patches + round(captioner.text_tokens.value)
    weights, prompts, slot = resident_bytes(
        model,
        positions=prompt + round(captioner.most_new_tokens.value),
        prompt_tokens=prompt,
        prompts=round(captioner.prompts_at_once.value),
        element_bytes=_BF16_BYTES,
    )
    taken = captioner.taken_of_free.value
    fit = int(((memory_gb * 1e9 - weights) * taken - prompts) // slot)
    if fit < 1:
        least = (weights + (prompts + slot) / taken) / 1e9
        wanted = (
            f"a GPU of {least:.1f} GB, {weights / 1e9:.1f} of them for the captioner's weights in bfloat16"
        )
        raise SettingsError(f"--gpu: want {wanted}, found {gpu} of {memory_gb:g} GB")
    return min(fit, round(captioner.slots.value))


def _caption(figures: Figures, card: Gpu, *, slots: int) -> tuple[float, str]:
    """The limit of models.cost at the rates that the card reaches, and the engine's share of it."""
    captioner, reached = figures.captioner, figures.reached
    model = Dimensions(**captioner.model.model_dump())
    text, new = round(captioner.text_tokens.value), captioner.new_tokens.value
    flop = caption_flop(model, text_tokens=text, new_tokens=new)
    read = decode_bytes(
        model,
        text_tokens=text,
        new_tokens=new,
        slots=slots,
        element_bytes=_BF16_BYTES,
    )
    tflops = card.tflops.value * reached.tflops.value
    tb_per_s = card.tb_per_s.value * reached.tb_per_s.value
    limit = 1 / least_seconds(flop, read, flop_per_s=tflops * 1e12, bytes_per_s=tb_per_s * 1e12)
    share, decode = captioner.engine_share.value, flop.decode / 1e12
    rates = (
        f"T = {card.tflops.value:g} x {reached.tflops.value:g} TFLOP/s,"
        f" B = {card.tb_per_s.value:g} x {reached.tb_per_s.value:g} TB/s, {slots} slots"
    )
    before = f"{flop.total / 1e12 - decode:.2f} TFLOP / T"
    steps = f"max({decode:.2f} TFLOP / T, {read / 1e9:.2f} GB / B)"
    return limit * share, f"{rates}; 1 / ({before} + {steps}) = {limit:.1f}, x {share:g}"


def _score(figures: Figures, card: Gpu) -> tuple[float, str]:
    tflops, reached = card.tflops.value, figures.reached.tflops.value
    tflop, share = figures.score.tflop.value, figures.score.engine_share.value
    formula = f"{tflops:g} x {reached:g} TFLOP/s / {tflop:g} TFLOP x {share:g}"
    return tflops * reached / tflop * share, formula


def _export(figures: Figures) -> tuple[float, str]:
    pace = figures.export.images_per_s_core.value
    return pace, f"{pace:g} images/s"
