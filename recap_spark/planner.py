"""rows + GPUs → hours, storage and money of each stage, with the formula of each

Pure arithmetic over conf/planner.yml, whose every figure says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recap_spark.errors import SettingsError
from recap_spark.roofline import caption_work, images_per_second

Label = Literal["published", "measured", "assumed"]


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Figures):
    """A number, and what stands behind it."""

    value: float
    label: Label
    source: str


class Gpu(_Figures):
    """A data sheet: dense TFLOP/s, TB/s, GB."""

    bf16: float
    fp8: float | None
    bandwidth: float
    memory: float
    label: Label
    source: str


class CaptionerFigures(_Figures):
    """How pictures are captioned, and how near to the card's limit."""

    side: Figure
    prompt_tokens: Figure
    new_tokens: Figure
    matrix_share: Figure
    engine_share: Figure


class ScoreFigures(_Figures):
    """Work of a pair's scores."""

    tflop: Figure
    engine_share: Figure


class FetchFigures(_Figures):
    """A core's pace, and how much of the web is still there."""

    images_per_s_core: Figure
    usd_per_core_hour: Figure
    success_share: Figure


class ExportFigures(_Figures):
    """A core's pace."""

    images_per_s_core: Figure


class StorageFigures(_Figures):
    """What a row takes."""

    image_kb: Figure
    caption_kb: Figure
    score_kb: Figure
    usd_per_tb_month: Figure


class Figures(_Figures):
    """conf/planner.yml."""

    gpus: dict[str, Gpu]
    usd_per_gpu_hour: dict[str, Figure]
    captioner: CaptionerFigures
    score: ScoreFigures
    fetch: FetchFigures
    export: ExportFigures
    storage: StorageFigures


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stage: its pace, what it takes and what it leaves. Hours are of the clock."""

    stage: str
    images: float
    images_per_s: float  # of all workers
    workers: int
    unit: Literal["GPU", "core"]
    stored_tb: float
    usd: float
    formula: str

    @property
    def hours(self) -> float:
        return self.images / self.images_per_s / 3600

    @property
    def worker_hours(self) -> float:
        return self.hours * self.workers


def read_figures(path: Path) -> Figures:
    """Raises SettingsError naming the file and every key that is wrong."""
    try:
        return Figures.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: want the planner's figures, found no file") from error
    except ValidationError as error:
        wrong = "\n".join(f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(wrong) from error


def plan(figures: Figures, *, rows: float, gpu: str, gpus: int, cores: int) -> tuple[Plan, ...]:
    """The stages in their order. Rows that are not fetched cost nothing after fetch."""
    if gpu not in figures.gpus or gpu not in figures.usd_per_gpu_hour:
        raise SettingsError(f"--gpu: want one of {', '.join(sorted(figures.gpus))}, found {gpu}")
    fetched = rows * figures.fetch.success_share.value
    return (
        _fetch(figures, rows=rows, fetched=fetched, cores=cores),
        _caption(figures, images=fetched, gpu=gpu, gpus=gpus),
        _score(figures, images=fetched, gpu=gpu, gpus=gpus),
        _export(figures, images=fetched, cores=cores),
    )


def _fetch(figures: Figures, *, rows: float, fetched: float, cores: int) -> Plan:
    pace = figures.fetch.images_per_s_core.value
    hours = rows / (pace * cores) / 3600
    return Plan(
        stage="fetch",
        images=rows,
        images_per_s=pace * cores,
        workers=cores,
        unit="core",
        stored_tb=_tb(fetched, figures.storage.image_kb.value),
        usd=hours * cores * figures.fetch.usd_per_core_hour.value,
        formula=f"{pace:g} images/s a core x {cores} cores",
    )


def _caption(figures: Figures, *, images: float, gpu: str, gpus: int) -> Plan:
    captioner, card = figures.captioner, figures.gpus[gpu]
    work = caption_work(
        side=round(captioner.side.value),
        prompt_tokens=round(captioner.prompt_tokens.value),
        new_tokens=round(captioner.new_tokens.value),
    )
    share = captioner.engine_share.value
    tflops = card.bf16 * captioner.matrix_share.value
    pace = images_per_second(work, tflops=tflops, share=share)
    return Plan(
        stage="caption",
        images=images,
        images_per_s=pace * gpus,
        workers=gpus,
        unit="GPU",
        stored_tb=_tb(images, figures.storage.caption_kb.value),
        usd=images / pace / 3600 * figures.usd_per_gpu_hour[gpu].value,
        formula=(
            f"{card.bf16:g} TFLOP/s x {captioner.matrix_share.value:g} / {work.total / 1e12:.2f} TFLOP"
            f" = {tflops * 1e12 / work.total:.1f} images/s, x {share:g} = {pace:.1f} a GPU, x {gpus} GPUs"
        ),
    )


def _score(figures: Figures, *, images: float, gpu: str, gpus: int) -> Plan:
    score, card = figures.score, figures.gpus[gpu]
    tflops = card.bf16 * figures.captioner.matrix_share.value
    pace = tflops / score.tflop.value * score.engine_share.value
    return Plan(
        stage="score",
        images=images,
        images_per_s=pace * gpus,
        workers=gpus,
        unit="GPU",
        stored_tb=_tb(images, figures.storage.score_kb.value),
        usd=images / pace / 3600 * figures.usd_per_gpu_hour[gpu].value,
        formula=(
            f"{card.bf16:g} TFLOP/s x {figures.captioner.matrix_share.value:g} / {score.tflop.value:g} TFLOP"
            f" x {score.engine_share.value:g} = {pace:.0f} a GPU, x {gpus} GPUs"
        ),
    )


def _export(figures: Figures, *, images: float, cores: int) -> Plan:
    pace = figures.export.images_per_s_core.value
    size_kb = figures.storage.image_kb.value + figures.storage.caption_kb.value
    return Plan(
        stage="export",
        images=images,
        images_per_s=pace * cores,
        workers=cores,
        unit="core",
        stored_tb=_tb(images, size_kb),
        usd=images / pace / 3600 * figures.fetch.usd_per_core_hour.value,
        formula=f"{pace:g} images/s a core x {cores} cores",
    )


def _tb(rows: float, kilobytes: float) -> float:
    return rows * kilobytes * 1e3 / 1e12
