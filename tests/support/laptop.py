"""Captioners and scorers of conf on a laptop, with changes: what tests and benchmarks hand to workers"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

from repository import CONF

from recap_spark.settings.loading import load
from recap_spark.settings.schema import Settings
from recap_spark.workers.captioning.captioner import CaptionerSpec
from recap_spark.workers.captioning.endpoint import EndpointCaptionerSpec
from recap_spark.workers.scoring.scorer import ScorerSpec

S = TypeVar("S", CaptionerSpec, EndpointCaptionerSpec)


def laptop(**changes: Any) -> Settings:
    """The laptop's settings; each change is named by its key, with `__` for its dots."""
    written = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()]
    return load(CONF / "base.yml", CONF / "laptop.yml", changes=written)


def captioner(**changes: Any) -> CaptionerSpec:
    """The miniature; each change is named by its key below `caption`."""
    return CaptionerSpec(laptop(**_below("caption", changes)).caption)


def endpoint(**changes: Any) -> EndpointCaptionerSpec:
    """The miniature behind a server; each change is named by its key below `caption`."""
    changes = {"captioner": "miniature_served"} | changes
    return EndpointCaptionerSpec(laptop(**_below("caption", changes)).caption)


def scorer(**changes: Any) -> ScorerSpec:
    """The small CLIP; each change is named by its key below `score`."""
    return ScorerSpec(settings=laptop(**_below("score", changes)).score, name="clip", original="original")


def with_captioner(spec: S, **changes: Any) -> S:
    """The same but for some values of the captioner's own file."""
    return replace(spec, settings=spec.settings.with_captioner(**changes))


def _below(section: str, changes: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}__{key}": value for key, value in changes.items()}
