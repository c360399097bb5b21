"""Every setting of every stage, as frozen models: what conf/*.yml must hold"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_serializer, model_validator

from recap_spark.settings.endpoint import ENDPOINT, IN_PROCESS, EndpointCaptionerSettings, kind
from recap_spark.settings.fetch import FetchSettings, UnitSettings
from recap_spark.settings.ingest import ImportSettings, IngestSettings
from recap_spark.settings.model_source import Origin, Parts
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.settings.section import Section, read_strictly
from recap_spark.settings.template import Template
from recap_spark.settings.values import (
    Bytes,
    BytesOrNone,
    Count,
    Epochs,
    JpegQuality,
    LocalPlace,
    Name,
    Place,
    Positive,
    SecondsOrNone,
    Seed,
    Share,
    TrackingUri,
    Units,
)

read_strictly(Origin, Parts, Template)


class LakeSettings(Section):
    """Where the tables are."""

    root: Place
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$")] | None


class SessionSettings(Section):
    """What the Spark session is built with where recap_spark builds it; a platform's own session is taken as
    it is.
    """

    app_name: str
    master: str | None
    metastore: LocalPlace | None
    log: LocalPlace | None
    jars: str | None
    start_timeout_s: SecondsOrNone
    least_free_bytes: BytesOrNone
    conf: dict[str, str]


class CaptionerSettings(Section):
    """conf/captioners/*.yml: everything that makes one captioner's captions what they are."""

    name: Name
    model: Place
    revision: str | None
    parts: Parts | None
    template: Template | None
    prompt: str
    max_new_tokens: Count
    dtype: Literal["float32", "bfloat16", "float16"]
    engine: Literal["slots", "generate"]
    float8_linears: bool

    @model_validator(mode="after")
    def _float8_by_slots(self) -> CaptionerSettings:
        if self.float8_linears and self.engine != "slots":
            raise ValueError(f"float8_linears: want engine slots for it, found {self.engine}")
        return self


class CaptionSettings(Section):
    """images → captions."""

    work: UnitSettings
    captioner: Annotated[
        Annotated[CaptionerSettings, Tag(IN_PROCESS)] | Annotated[EndpointCaptionerSettings, Tag(ENDPOINT)],
        Discriminator(kind),
    ]
    device: Literal["cpu", "gpu"]
    journal: Place | None
    batch_size: Count
    slots: Count
    prefill_batch: Count
    engine_memory_bytes: Bytes | None
    decode_threads: Count
    engine_threads: Count
    decode: DecodeLimits

    def with_captioner(self, **changes: Any) -> CaptionSettings:
        """A copy whose captioner has other values. They are not validated."""
        return self.model_copy(update={"captioner": self.captioner.model_copy(update=changes)})


class CalibrateSettings(Section):
    """The published captions that conversation templates are judged by, and the templates."""

    pairs: Count
    templates: Annotated[dict[str, Template], Field(min_length=1)]


class ScorerSettings(Section):
    """conf/scorers/*.yml: one image-text model and how its pair preference is formed."""

    name: Name
    model: Place
    revision: str | None
    fit: Literal["crop", "pad"]
    preference_features: Literal["normalised", "raw"]
    preference_scale: Positive
    dtype: Literal["float32", "bfloat16", "float16"]


class ScoreSettings(Section):
    """images + samples + captions → scores."""

    work: UnitSettings
    scorer: ScorerSettings
    device: Literal["cpu", "gpu"]
    batch_size: Count
    decode_threads: Count
    engine_threads: Count
    decode: DecodeLimits


class ViewSettings(Section):
    """conf/views/*.yml: draws of mixed captions, one for each epoch, and the rows they are drawn over."""

    name: Name
    p: Share
    seed: Seed
    epoch: Epochs  # the first one's captions are those beside the pictures
    captioner: str | None
    sha256: Literal["match", "not_mismatch", "any"]

    @field_serializer("epoch")
    def _as_written(self, epochs: tuple[int, ...]) -> int | list[int]:
        return epochs[0] if len(epochs) == 1 else list(epochs)


class ExportSettings(Section):
    """A view → files to train on."""

    view: ViewSettings
    folder: Place
    formats: Annotated[tuple[Literal["webdataset", "parquet"], ...], Field(min_length=1)]
    rows_per_shard: Count
    units: Units
    tasks_per_unit: Count
    jpeg_quality: JpegQuality
    decode: DecodeLimits


class TrackingSettings(Section):
    """Where MLflow keeps the runs."""

    uri: TrackingUri | None
    experiment: str


class DemoSettings(Section):
    """The miniature web that `recap-spark demo` runs on."""

    rows: Count
    seed: Seed
    port: Annotated[int, Field(ge=1024, le=65535)]
    folder: Place


class Settings(Section):
    """Every setting of every stage."""

    lake: LakeSettings
    session: SessionSettings
    ingest: IngestSettings
    import_images: ImportSettings
    fetch: FetchSettings
    caption: CaptionSettings
    calibrate: CalibrateSettings
    score: ScoreSettings
    export: ExportSettings
    tracking: TrackingSettings
    demo: DemoSettings
