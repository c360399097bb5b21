"""Fetching and what surrounds it, as conf sets it"""

from __future__ import annotations

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.settings.section import Section, read_strictly
from recap_spark.settings.values import Count, CountOrNone, Hours, Seed, Units

read_strictly(DecodeLimits, FetchLimits, PictureRules)


class UnitSettings(Section):
    """How a stage cuts its work: a unit is the step of commit and of resume."""

    units: Units
    in_flight: Count
    tasks_per_unit: Count | None


class PlaceholderSettings(Section):
    """How often one picture has to be met to be no picture of anything."""

    urls: Count | None
    hosts: CountOrNone


class RetrySettings(Section):
    """Which failures get another attempt, and when."""

    attempts: Count
    wait_h: Hours
    rows_per_commit: Count
    tasks: Count


class ProbeSettings(Section):
    """How `fetch --probe` draws and fetches its sample."""

    seed: Seed
    tasks: Count | None


class FetchSettings(Section):
    """samples → images."""

    work: UnitSettings
    limits: FetchLimits
    decode: DecodeLimits
    picture: PictureRules
    placeholders: PlaceholderSettings
    retry: RetrySettings
    probe: ProbeSettings
