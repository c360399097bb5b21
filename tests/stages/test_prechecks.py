"""What one worker finds wanting ends a stage in one line, before any loads weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from laptop import captioner, scorer

from recap_spark.errors import PlatformError, WeightsError
from recap_spark.machine.failures import said_in_one_line
from recap_spark.stages import score
from recap_spark.stages.caption import caption
from recap_spark.workers.captioning.journal import Journal

pytestmark = pytest.mark.spark


def test_a_captioner_s_fault_is_said_in_one_line(spark, tmp_path):
    lost = captioner(captioner__float8_linears=True)
    journal = Journal(str(tmp_path))
    with (
        pytest.raises(PlatformError, match=r"^float8 linears: want a GPU .*, found cpu$"),
        said_in_one_line(),
    ):
        caption.check_worker(spark, captioner=lost, device="cpu", journal=journal)


def test_a_scorer_s_fault_is_said_in_one_line(spark, tmp_path):
    (Path(tmp_path) / "config.json").write_text('{"model_type": "siglip"}')
    lost = scorer(scorer__model=str(tmp_path))
    with (
        pytest.raises(WeightsError, match=r"^\S*config\.json: want model_type clip, found 'siglip'$"),
        said_in_one_line(),
    ):
        score.check_worker(spark, scorer=lost, device="cpu")
