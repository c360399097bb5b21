"""A stage does not begin on a disk that is full."""

from __future__ import annotations

import pytest

from recap_spark.errors import PlatformError
from recap_spark.machine import space

pytestmark = pytest.mark.spark


def test_a_disk_with_room_lets_a_stage_begin_though_the_lake_is_not_there_yet(spark, tmp_path):
    space.check_free_space(spark, root=str(tmp_path / "not" / "there"))
    space.check_free_space(spark, root="s3://bucket/lake")


def test_a_full_disk_is_said_before_the_stage_begins(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(space, "LEAST_FREE", 1 << 60)
    with pytest.raises(PlatformError, match=r"lake.root: want \d+ MiB free at .*, found \d+ MiB"):
        space.check_free_space(spark, root=str(tmp_path))
