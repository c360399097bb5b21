"""A probe fetches a sample that any rerun would draw again, and leaves no trace in any table."""

from __future__ import annotations

import pytest
from PIL import Image
from uids import uid_of

from recap_spark.errors import InputError
from recap_spark.miniature.server import serve
from recap_spark.report.probe import estimate
from recap_spark.stages.fetch.probe import draw_sample, probe_urls
from recap_spark.tables import IMAGES, SAMPLES

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    (folder / "images").mkdir()
    Image.effect_noise((16, 16), 60).save(folder / "images" / "a.jpg")
    with serve(folder) as server:
        yield server


def samples(web, *, rows: int):
    """Three of four urls have a picture."""
    paths = ["gone" if number % 4 == 0 else "images" for number in range(rows)]
    return [
        {"uid": uid_of(number), "url": f"{web.base_url}/{path}/a.jpg"} for number, path in enumerate(paths)
    ]


def test_a_probe_counts_the_sample_s_ends_and_writes_nothing(filled, web, settings):
    lake = filled(samples=samples(web, rows=40), images=[{"uid": uid_of(0)}])
    versions = {table.name: lake.version(table) for table in (SAMPLES, IMAGES)}
    found = probe_urls(lake, settings, rows=20)
    assert len(found.ends) == 20
    assert {end.status for end in found.ends} <= {"ok", "gone"}
    assert all((end.size > 0) == (end.status == "ok") for end in found.ends)
    assert (found.untried, found.tried, found.fetched) == (39, 1, 1)
    assert {table.name: lake.version(table) for table in (SAMPLES, IMAGES)} == versions


def test_a_probe_of_more_rows_than_there_are_knows_the_table(filled, web, settings):
    lake = filled(samples=samples(web, rows=16))
    found = probe_urls(lake, settings, rows=1000)
    assert (len(found.ends), found.untried) == (16, 16)
    assert estimate(found).success == 0.75


def test_the_sample_depends_on_nothing_but_the_seed_and_grows_with_the_rows(filled, web):
    lake = filled(samples=samples(web, rows=100))

    def drawn(*, rows, seed, partitions):
        frame = lake.read(SAMPLES).select("uid").repartition(partitions)
        return [row["uid"] for row in draw_sample(frame, rows=rows, seed=seed).collect()]

    first = drawn(rows=10, seed=1, partitions=1)
    assert drawn(rows=10, seed=1, partitions=3) == first
    assert drawn(rows=20, seed=1, partitions=2)[:10] == first
    assert drawn(rows=10, seed=2, partitions=1) != first


def test_a_probe_of_a_finished_table_is_an_error(filled, settings):
    lake = filled(samples=[{"uid": uid_of(0)}], images=[{"uid": uid_of(0)}])
    with pytest.raises(InputError, match="never tried"):
        estimate(probe_urls(lake, settings, rows=5))
