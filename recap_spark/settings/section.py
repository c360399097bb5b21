"""How every part of the settings is read: a key that is unknown or mistyped is an error, a value is final"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def read_strictly(*kinds: Any) -> None:
    """Let dataclasses, which workers know without pydantic, be read as strictly as the rest."""
    for kind in kinds:
        kind.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
