"""What would fail each task after its weights are loaded is said before, in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from laptop import captioner, endpoint, with_captioner
from tiny_checkpoint import TEMPLATE, rewrite

from recap_spark.errors import PlatformError, WeightsError
from recap_spark.workers.captioning.journal import Journal
from recap_spark.workers.captioning.precheck import check_partition

ROW = pa.RecordBatch.from_pydict({"id": [0]})


def checked(spec, folder: Path) -> list[pa.RecordBatch]:
    journal = Journal(str(folder / "journal"))
    return list(check_partition([ROW], spec=spec, device=lambda: "cpu", journal=journal))


def test_a_sound_captioner_leaves_nothing_behind(whole, tmp_path):
    assert checked(whole.spec, tmp_path) == [ROW]
    assert list((tmp_path / "journal").iterdir()) == []


def test_weights_that_do_not_fit_are_named_though_none_is_read(whole, tmp_path):
    rewrite(whole, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(WeightsError, match=r"lm_head\.weight: no tensor fills it"):
        checked(whole.spec, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEMPLATE.text.replace("<image>", ""), "want 4 image tokens for 4 patches, found 0"),
        (
            TEMPLATE.text.replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"),
            "once, found it 2 times",
        ),
    ],
)
def test_a_template_that_fits_no_model_is_said(whole, tmp_path, text, said):
    spec = with_captioner(whole.spec, template=replace(TEMPLATE, text=text))
    with pytest.raises(WeightsError, match=said):
        checked(spec, tmp_path)


def test_a_journal_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "journal").write_text("a file in the way")
    with pytest.raises(PlatformError, match=r"caption\.journal: want .*journal to be written"):
        checked(captioner(), tmp_path)


def test_float8_without_hardware_for_it_is_said(tmp_path):
    with pytest.raises(PlatformError, match="float8 linears: want a GPU"):
        checked(captioner(captioner__float8_linears=True), tmp_path)


def test_a_server_is_left_to_answer_for_itself(tmp_path):
    assert checked(endpoint(), tmp_path / "not there") == [ROW]
