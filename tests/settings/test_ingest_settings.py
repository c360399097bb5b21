"""Filters are written in conf by DataComp's names, and a wrong one is said with its place."""

from pathlib import Path

import pytest
from repository import CONF

from recap_spark.errors import SettingsError
from recap_spark.settings.ingest import BasicFilter, ClipFractionFilter
from recap_spark.settings.loading import load

BASE = CONF / "base.yml"


def filters(folder: Path, written: str) -> tuple:
    mine = folder / "mine.yml"
    mine.write_text(f"ingest: {{filters: {written}}}")
    return load(BASE, mine).ingest.filters


def test_filters_are_read_in_their_order(tmp_path):
    read = filters(tmp_path, "[{name: basic}, {name: clip_score_fraction, arch: l14, fraction: 0.3}]")
    fraction = ClipFractionFilter(name="clip_score_fraction", arch="l14", fraction=0.3)
    assert read == (BasicFilter(name="basic"), fraction)
    assert fraction.column == "clip_l14_similarity_score"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[{name: laion2b}]", "ingest.filters.0: .*'basic', 'caption'.*, found 'laion2b'"),
        ("[{name: basic, side: 200}]", "ingest.filters.0.basic.side: nobody reads this key"),
        ("[{name: clip_score_fraction, arch: l14}]", "fraction: not set in any file"),
        ("[{name: clip_score_fraction, arch: l14, fraction: 30}]", "want less than 1, found 30"),
        ("[{name: clip_score_threshold, arch: h14, threshold: 0.3}]", "'b32' or 'l14', found 'h14'"),
    ],
)
def test_a_wrong_filter_is_named_with_its_place(tmp_path, written, said):
    with pytest.raises(SettingsError, match=said):
        filters(tmp_path, written)
