"""Fetching and what surrounds it, as conf sets it"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.settings.values import Count, CountOrNone, Hours, Seed, Units


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# Dataclasses that workers know without pydantic; here they are read as strictly as the rest.
_READ_BY_WORKERS: tuple[Any, ...] = (DecodeLimits, FetchLimits, PictureRules)
for _dataclass in _READ_BY_WORKERS:
    _dataclass.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)


class UnitSettings(_Section):
    """How a stage cuts its work: a unit is the step of commit and of resume."""

    units: Units
    in_flight: Count
    tasks_per_unit: Count | None


class PlaceholderSettings(_Section):
    """How often one picture has to be met to be no picture of anything."""

    urls: Count | None
    hosts: CountOrNone


class RetrySettings(_Section):
    """Which failures get another attempt, and when."""

    attempts: Count
    wait_h: Hours
    rows_per_commit: Count
    tasks: Count


class ProbeSettings(_Section):
    """How `fetch --probe` draws and fetches its sample."""

    seed: Seed
    tasks: Count | None


class FetchSettings(_Section):
    """samples → images."""

    work: UnitSettings
    limits: FetchLimits
    decode: DecodeLimits
    picture: PictureRules
    placeholders: PlaceholderSettings
    retry: RetrySettings
    probe: ProbeSettings
