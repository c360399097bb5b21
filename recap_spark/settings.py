"""conf/*.yml → frozen settings. A key that nobody reads, that nobody sets or that is mistyped is an error
with its path.

`base.yml` sets every key; later files override it leaf by leaf. A captioner, a scorer or a view is a file of
its own beside base.yml (`captioners/NAME.yml`, …), named by the key that uses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from recap_spark.captioners import ENDPOINT, IN_PROCESS, EndpointCaptionerSettings, kind
from recap_spark.choices import Count, ImportSettings, IngestSettings
from recap_spark.complaints import explain
from recap_spark.errors import SettingsError
from recap_spark.fetch_settings import FetchSettings, UnitSettings
from recap_spark.layers import KeyPath, leaves, stack
from recap_spark.origins import Origin
from recap_spark.workers.checkpoint import Parts
from recap_spark.workers.decode_limits import DecodeLimits
from recap_spark.workers.templates import Template

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]
M = TypeVar("M", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# Dataclasses that workers know without pydantic; here they are read as strictly as the rest.
_READ_BY_WORKERS: tuple[Any, ...] = (Origin, Parts, Template)
for _dataclass in _READ_BY_WORKERS:
    _dataclass.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)


class LakeSettings(_Section):
    """Where the tables are."""

    root: str
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$")] | None


class SessionSettings(_Section):
    """What the Spark session is built with where recap_spark builds it; a platform's own session is taken as
    it is.
    """

    app_name: str
    master: str | None
    metastore: str | None
    log: str | None
    jars: str | None
    start_timeout_s: float
    conf: dict[str, str]


class CaptionerSettings(_Section):
    """conf/captioners/*.yml: everything that makes one captioner's captions what they are."""

    name: Name
    model: str
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


class CaptionSettings(_Section):
    """images → captions."""

    work: UnitSettings
    captioner: Annotated[
        Annotated[CaptionerSettings, Tag(IN_PROCESS)] | Annotated[EndpointCaptionerSettings, Tag(ENDPOINT)],
        Discriminator(kind),
    ]
    device: Literal["cpu", "gpu"]
    journal: str | None
    batch_size: Count
    slots: Count
    prefill_batch: Count
    engine_memory_bytes: Count | None
    decode_threads: Count
    engine_threads: Count
    decode: DecodeLimits


class CalibrateSettings(_Section):
    """The published captions that conversation templates are judged by, and the templates."""

    pairs: Count
    templates: Annotated[dict[str, Template], Field(min_length=1)]


class ScorerSettings(_Section):
    """conf/scorers/*.yml: one image-text model and how its pair preference is formed."""

    name: Name
    model: str
    revision: str | None
    fit: Literal["crop", "pad"]
    preference_features: Literal["normalised", "raw"]
    preference_scale: Annotated[float, Field(gt=0)]
    dtype: Literal["float32", "bfloat16", "float16"]


class ScoreSettings(_Section):
    """images + samples + captions → scores."""

    work: UnitSettings
    scorer: ScorerSettings
    device: Literal["cpu", "gpu"]
    batch_size: Count
    decode_threads: Count
    engine_threads: Count
    decode: DecodeLimits


class ViewSettings(_Section):
    """conf/views/*.yml: one draw of mixed captions, and the rows it is drawn over."""

    name: Name
    p: Share
    seed: int
    epoch: Annotated[int, Field(ge=0)]
    captioner: str | None
    sha256: Literal["match", "not_mismatch", "any"]


class ExportSettings(_Section):
    """A view → files to train on."""

    view: ViewSettings
    folder: str
    formats: Annotated[tuple[Literal["webdataset", "parquet"], ...], Field(min_length=1)]
    rows_per_shard: Count
    units: Annotated[int, Field(ge=1, le=65536)]
    tasks_per_unit: Count
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    decode: DecodeLimits


class TrackingSettings(_Section):
    """Where MLflow keeps the runs."""

    uri: str | None
    experiment: str


class DemoSettings(_Section):
    """The miniature web that `recap-spark demo` runs on."""

    rows: Count
    seed: int
    port: Annotated[int, Field(ge=1024, le=65535)]
    folder: str


class Settings(_Section):
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


_NAMED_FILES = {
    ("caption", "captioner"): "captioners",
    ("caption", "captioner", "template"): "captioners/templates",
    ("calibrate", "templates"): "captioners/templates",
    ("score", "scorer"): "scorers",
    ("export", "view"): "views",
}


def load(*paths: Path, captioner: str | None = None) -> Settings:
    """Settings from files, later ones over earlier ones; `captioner` is a name in place of the files' own.

    Raises SettingsError as `read` does.
    """
    over = {"caption": {"captioner": captioner}} if captioner else None
    return read(Settings, *paths, named_files=_NAMED_FILES, over=over)


def read(
    model: type[M],
    *paths: Path,
    named_files: Mapping[KeyPath, str],
    over: Mapping[str, Any] | None = None,
) -> M:
    """The model's values from files, later ones over earlier ones, and `over` over all of them.

    Raises SettingsError naming the file and the path of every key that is unknown, missing or of the wrong
    type.
    """
    if not paths:
        raise SettingsError("want at least one settings file, found none")
    layers = stack(*paths, named_files=named_files, over=over)
    try:
        # JSON's rules, not Python's: a list may stand for a tuple, but "8" never for 8.
        # YAML's own dates (a revision, an experiment's name) are the words that were written.
        return model.model_validate_json(json.dumps(layers.values, default=str))
    except ValidationError as error:
        raise SettingsError(explain(error, layers, paths)) from None


def flat(settings: BaseModel) -> dict[str, str]:
    """Every leaf by its dotted path, as text: what a tracked run records."""
    return {".".join(path): str(value) for path, value in leaves(settings.model_dump(mode="json"))}
