"""The miniature DataComp."""

from __future__ import annotations

import hashlib
import re

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recap_spark.errors import InputError
from recap_spark.miniature.dataset import METADATA_SCHEMA, ROUTE_SHARES, write_dataset
from recap_spark.miniature.language import describe
from recap_spark.miniature.world import scene_from_json

BASE_URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datacomp")
    write_dataset(folder, rows=1000, seed=0, base_url=BASE_URL)
    return folder


@pytest.fixture(scope="module")
def metadata(folder):
    return pd.read_parquet(folder / "metadata")


@pytest.fixture(scope="module")
def truths(folder):
    return pd.read_parquet(folder / "truth")


def test_metadata_files_have_datacomps_names_and_exact_schema(folder):
    files = sorted((folder / "metadata").iterdir())
    assert len(files) >= 2
    for file in files:
        assert re.fullmatch(r"[0-9a-f]{32}\.parquet", file.name)
        assert pq.read_schema(file).equals(METADATA_SCHEMA)


def test_an_image_on_the_sound_route_is_the_one_that_its_row_promises(folder, metadata):
    sound = metadata[metadata.url.str.startswith(f"{BASE_URL}/images/")].head(50)
    for row in sound.itertuples():
        body = (folder / "images" / row.url.rsplit("/", 1)[-1]).read_bytes()
        assert hashlib.sha256(body).hexdigest() == row.sha256


def test_routes_come_in_their_stated_shares(truths):
    counts = truths.route.value_counts()
    assert {route: counts[route] for route in ROUTE_SHARES} == {
        route: int(share * 1000) for route, share in ROUTE_SHARES.items()
    }
    assert counts["images"] >= 840


def test_some_redirects_go_on_beyond_five(metadata):
    hops = metadata.url.str.extract(r"/redirect/(\d+)/")[0].dropna().astype(int)
    assert (hops > 5).any()
    assert (hops <= 5).any()


def test_every_fault_of_the_metadata_is_there(metadata, truths):
    assert metadata.uid.isna().sum() == 5
    assert (~metadata.uid.dropna().str.fullmatch(r"[0-9a-f]{32}")).sum() == 5
    assert (metadata.url == "").sum() == 5
    assert metadata.url.str.startswith("ftp://").sum() == 5
    assert (metadata.text.str.len() > 1_000_000).sum() == 1
    columns = [name for name in metadata.columns if name != "face_bboxes"]
    alike = metadata.dropna(subset="uid").duplicated(columns).sum()
    same_uid = metadata.dropna(subset="uid").duplicated("uid").sum()
    assert (alike, same_uid) == (5, 10)
    assert (truths.fault != "").sum() == 31


def test_the_truth_is_kept_apart_under_the_uids_of_sound_rows(metadata, truths):
    sound = truths[truths.fault == ""]
    assert set(sound.uid) <= set(metadata.uid)
    assert truths.uid.is_unique
    row = truths.iloc[0]
    assert describe(scene_from_json(row.scene)) == row.description
    assert not {"scene", "description"} & set(metadata.columns)


def test_equal_arguments_write_equal_files(tmp_path):
    for name in ("one", "two"):
        write_dataset(tmp_path / name, rows=30, seed=3, base_url=BASE_URL)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) >= 33
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_another_seed_has_other_scenes(tmp_path, truths):
    write_dataset(tmp_path, rows=30, seed=1, base_url=BASE_URL)
    assert not set(pd.read_parquet(tmp_path / "truth").uid) & set(truths.uid)


def test_a_seed_outside_the_webs_range_is_refused(tmp_path):
    with pytest.raises(InputError, match="found 1000"):
        write_dataset(tmp_path, rows=10, seed=1000, base_url=BASE_URL)
