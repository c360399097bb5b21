"""conf/train/captioner_*.yml → the frozen settings of one training run

Knows neither Spark nor torch: a driver reads a run, its processes train it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from recap_spark.settings.loading import read
from recap_spark.settings.schema import TrackingSettings
from recap_spark.settings.section import Section
from recap_spark.settings.values import Count, CountOrNone, Name, NotNegative, Place, Positive, Seed, Share


class PartsSettings(Section):
    """The two pretrained parts that a first stage joins by a new projector; folders or hub names."""

    vision_tower: Place
    vision_revision: str | None
    decoder: Place
    decoder_revision: str | None


class ConversationSettings(Section):
    """What is learned from: LLaVA's JSON, and the folder that its `image` paths are in."""

    file: Place
    images: Place
    template: Literal["plain", "chat"]
    fit: Literal["crop", "pad"]
    longest: Count
    loader_processes: CountOrNone


class LoraSettings(Section):
    """Low-rank updates of every linear layer of the decoder, merged into the weights that are saved."""

    rank: Count
    alpha: Count
    dropout: Share


class CaptionerRun(Section):
    """One stage of the captioner's training."""

    name: Name
    folder: Place
    seed: Seed
    device: Literal["cpu", "gpu"]
    start: PartsSettings | str
    trains: Literal["projector", "projector_and_decoder"]
    lora: LoraSettings | None
    data: ConversationSettings
    epochs: Count
    batch_size: Count
    micro_batch_size: Count
    pool_batches: Count
    peak_rate: Positive
    projector_rate: Positive
    warmup_share: Share
    weight_decay: NotNegative
    beta2: Share
    clip_norm: Positive
    precision: Literal["float32", "bfloat16"]
    gradient_checkpointing: bool
    checkpoint_every: Count
    checkpoints_kept: Count
    saved_dtype: Literal["float32", "bfloat16", "float16"]
    log_every: Count
    spark_processes: Count
    tracking: TrackingSettings

    @model_validator(mode="after")
    def _lora_where_the_decoder_trains(self) -> CaptionerRun:
        if self.lora and self.trains == "projector":
            raise ValueError("lora: want trains projector_and_decoder for updates of it, found projector")
        return self


def load_run(*paths: Path) -> CaptionerRun:
    """A run from its file, and from others laid over it leaf by leaf. Raises SettingsError."""
    return read(CaptionerRun, *paths, named_files={})
