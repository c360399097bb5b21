"""conf/captioners/*.yml of an endpoint, and which of the two kinds of file it is"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from recap_spark.workers.endpoint import Endpoint, PictureRule
from recap_spark.workers.server import ServeSpec

# What workers know as dataclasses, without pydantic, is read as strictly here as the rest.
_STRICT = ConfigDict(extra="forbid", strict=True)
Endpoint.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
PictureRule.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
ServeSpec.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]

# In angle brackets, since pydantic puts them into the path of a key, where no key of a file looks like that.
IN_PROCESS, ENDPOINT = "<in process>", "<endpoint>"


class EndpointCaptionerSettings(BaseModel):
    """conf/captioners/*.yml with `engine: endpoint`: a captioner that a server runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    engine: Literal["endpoint"]
    model: str
    revision: str | None
    prompt: str
    max_new_tokens: PositiveInt
    dtype: str | None
    endpoint: Endpoint


def kind(values: Any) -> str:
    """Which settings a captioner's file holds."""
    engine = values.get("engine") if isinstance(values, dict) else getattr(values, "engine", None)
    return ENDPOINT if engine == "endpoint" else IN_PROCESS


def without_kind(path: tuple[int | str, ...]) -> tuple[str, ...]:
    """A key's path as the file has it."""
    return tuple(str(part) for part in path if part not in (IN_PROCESS, ENDPOINT))
