"""What surrounds fetching, as conf sets it: placeholders, retries, the probe"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PlaceholderSettings(_Section):
    """How often one picture has to be met to be no picture of anything."""

    urls: Count | None
    hosts: Annotated[int, Field(ge=0)]


class RetrySettings(_Section):
    """Which failures get another attempt, and when."""

    attempts: Count
    wait_h: Annotated[float, Field(ge=0)]
    rows_per_commit: Count
    tasks: Count


class ProbeSettings(_Section):
    """How `fetch --probe` draws and fetches its sample."""

    seed: int
    tasks: Count | None
