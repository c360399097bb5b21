"""What a sample says of its table, by arithmetic that can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from recap_spark.errors import InputError
from recap_spark.report.probe import estimate, show_probe, wilson
from recap_spark.stages.fetch.probe import End, Probe

START = datetime(2026, 1, 1, tzinfo=UTC)


def probe(*, ok: int, failed: int, untried: int = 0, tried: int = 0, fetched: int = 0, sizes=(100,)) -> Probe:
    """Urls that end a tenth of a second after one another, and ten seconds more until the last deadline."""
    statuses = ["ok"] * ok + ["gone"] * failed
    ends = tuple(
        End(
            status,
            sizes[place % len(sizes)] if status == "ok" else 0,
            status == "ok" or None,
            START + timedelta(seconds=place / 10),
        )
        for place, status in enumerate(statuses)
    )
    return Probe(ends, len(ends) / 10 + 10.0, tasks=2, untried=untried, tried=tried, fetched=fetched)


@pytest.mark.parametrize(
    ("successes", "rows", "low", "high"),
    # Brown, Cai & DasGupta, "Interval estimation for a binomial proportion" (2001), gives the formula.
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0), (850, 1000, 0.82653, 0.87079)],
)
def test_the_interval_of_a_share_is_wilson_s(successes, rows, low, high):
    assert wilson(successes, rows) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("successes", "rows"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_or_more_than_everything_is_an_error(successes, rows):
    with pytest.raises(ValueError, match=f"found {successes} of {rows}"):
        wilson(successes, rows)


def test_rows_already_tried_count_as_they_ended():
    found = estimate(probe(ok=50, failed=50, untried=1000, tried=3000, fetched=2900))
    assert found.success == pytest.approx((2900 + 500) / 4000)
    low, high = wilson(50, 100)
    assert found.success_between == pytest.approx(((2900 + 1000 * low) / 4000, (2900 + 1000 * high) / 4000))


def test_bytes_are_those_of_the_pictures_spread_over_all_urls():
    found = estimate(probe(ok=50, failed=50, untried=1000, tried=3000, fetched=2900, sizes=(90, 110)))
    assert found.total_bytes == pytest.approx(2900 * 100 + 1000 * 50)
    low, high = found.total_bytes_between
    assert low < found.total_bytes < high


def test_hours_lie_between_the_middle_s_rate_and_the_whole_sample_s():
    """Ten urls a second, but a hundred in the twenty seconds until the last deadline."""
    found = estimate(probe(ok=100, failed=0, untried=360_000))
    assert found.hours_left_between == pytest.approx((10.0, 20.0))


def test_a_sample_whose_urls_all_fail_estimates_no_bytes():
    found = estimate(probe(ok=0, failed=5, untried=100))
    assert (found.success, found.total_bytes) == (0.0, 0.0)
    assert found.success_between[1] > 0.3


def test_a_probe_of_a_finished_table_says_that_there_is_nothing_left():
    with pytest.raises(InputError, match="images has all 7"):
        estimate(probe(ok=0, failed=0, tried=7))


def test_the_probe_shows_statuses_and_the_whole_table(capsys):
    shown = probe(ok=50, failed=50, untried=1000, tried=3000, fetched=2900)
    show_probe(shown, console=Console(width=120))
    said = capsys.readouterr().out
    for words in (
        "A sample of 100 of 1000 untried rows",
        "gone",
        "All 4000 rows",
        "85.0%",
        "2 tasks at once",
    ):
        assert words in said
