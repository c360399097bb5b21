"""conf/planner.yml → the figures that a plan is reckoned with"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from recap_spark.settings.loading import read
from recap_spark.settings.values import Count, Positive

Label = Literal["published", "computed", "measured", "assumed"]


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Figures):
    """A number, and what stands behind it."""

    value: Positive
    label: Label
    source: str


class Gpu(_Figures):
    """A data sheet, and a price."""

    tflops: Figure
    tb_per_s: Figure
    memory_gb: Figure
    usd_per_hour: Figure


class ReachedFigures(_Figures):
    """How much of a data sheet's rates plain operations reach."""

    tflops: Figure
    tb_per_s: Figure


class ModelFigures(_Figures):
    """A captioner's dimensions, as `models.cost` wants them."""

    layers: Count
    embedding: Count
    intermediate: Count
    heads: Count
    groups: Count
    width: Count
    vocabulary: Count
    vision_layers: Count
    vision_embedding: Count
    vision_intermediate: Count
    patches: Count
    patch_values: Count


class CaptionerFigures(_Figures):
    """What is captioned with, how long captions are, what the engine holds on a card, and how near to the
    card's limit it is.
    """

    model: ModelFigures
    text_tokens: Figure
    new_tokens: Figure
    most_new_tokens: Figure
    slots: Figure
    prompts_at_once: Figure
    taken_of_free: Figure
    engine_share: Figure


class ScoreFigures(_Figures):
    """Work of an image's scores."""

    tflop: Figure
    engine_share: Figure


class IngestFigures(_Figures):
    """A core's pace."""

    rows_per_s_core: Figure


class FetchFigures(_Figures):
    """A core's pace, and how much of the web is still there."""

    images_per_s_core: Figure
    ratio: Figure
    success_share: Figure


class ExportFigures(_Figures):
    """A core's pace."""

    images_per_s_core: Figure


class StorageFigures(_Figures):
    """What a row takes."""

    sample_kb: Figure
    image_kb: Figure
    caption_kb: Figure
    score_kb: Figure
    usd_per_tb_month: Figure


class Figures(_Figures):
    """conf/planner.yml."""

    gpus: dict[str, Gpu]
    reached: ReachedFigures
    captioner: CaptionerFigures
    score: ScoreFigures
    ingest: IngestFigures
    fetch: FetchFigures
    export: ExportFigures
    usd_per_core_hour: Figure
    storage: StorageFigures


def read_figures(path: Path) -> Figures:
    """Raises SettingsError naming the file and every key that is wrong."""
    return read(Figures, path, named_files={})
