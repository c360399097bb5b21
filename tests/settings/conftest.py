"""The settings of base.yml that workers are given."""

from __future__ import annotations

import pytest

from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.settings.schema import Settings


@pytest.fixture
def decode(settings: Settings) -> DecodeLimits:
    return settings.fetch.decode


@pytest.fixture
def rules(settings: Settings) -> PictureRules:
    return settings.fetch.picture
