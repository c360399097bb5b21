"""A stage does not begin on a disk that is full."""

from __future__ import annotations

import pytest

from recap_spark.errors import PlatformError
from recap_spark.machine.space import check_free_space

pytestmark = pytest.mark.spark


def test_a_disk_with_room_lets_a_stage_begin_though_the_lake_is_not_there_yet(spark, tmp_path):
    check_free_space(spark, root=str(tmp_path / "not" / "there"), least_bytes=1)
    check_free_space(spark, root="s3://bucket/lake", least_bytes=1)


def test_a_full_disk_is_said_before_the_stage_begins(spark, tmp_path):
    with pytest.raises(PlatformError, match=r"lake.root: want \d+ MiB free at .*, found \d+ MiB"):
        check_free_space(spark, root=str(tmp_path), least_bytes=1 << 60)
    with pytest.raises(PlatformError, match=r"spark.local.dir: want \d+ MiB free"):
        check_free_space(spark, root="s3://bucket/lake", least_bytes=1 << 60)
