"""A picture behind very many urls and hosts is no picture of anything, and nobody captions it."""

import hashlib
from dataclasses import dataclass
from itertools import chain

import pytest
from deltalake import DeltaTable as DeltaRsTable
from deltalake import QueryBuilder
from uids import uid_of

from recap_spark.lake.lake import Lake
from recap_spark.settings.fetch import PlaceholderSettings
from recap_spark.stages.fetch.placeholders import mark_placeholders
from recap_spark.tables import IMAGES

pytestmark = pytest.mark.spark

REMOVED, COMMON, RARE, REFUSED = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
OFTEN = PlaceholderSettings(urls=3, hosts=2)
REMOVED_URLS = [
    "http://a.test/1",
    "http://a.test/2",
    "http://B.test/1",
    "http://b.test:8080/2",
    "https://c.test/",
]
FOUR_HOSTS = [f"http://{host}.test/" for host in "abcd"]
SELDOM = {
    "three urls are not more than three": FOUR_HOSTS[:3],
    "two hosts are not more than two": [f"http://{host}.test/{page}" for host in "ab" for page in range(9)],
    "the same urls for several alt-texts": FOUR_HOSTS[:3] * 3,
}


def answers(sha256: str, *urls: str, status: str = "ok"):
    """Samples and images of urls that all answered with one picture."""
    uids = [uid_of((sha256, status, place, url)) for place, url in enumerate(urls)]
    body = b"\xff\xd8\xff" + sha256.encode() if status == "ok" else None
    samples = [{"uid": uid, "url": url} for uid, url in zip(uids, urls, strict=True)]
    images = [
        {"uid": uid, "sha256": sha256, "status": status, "bytes": body, "width": 8, "detail": None}
        for uid in uids
    ]
    return samples, images


def everything(*parts):
    samples, images = zip(*parts, strict=True)
    return {"samples": list(chain(*samples)), "images": list(chain(*images))}


def sha_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def ends(lake: Lake, sha256: str) -> set[tuple[str, str | None, bool]]:
    rows = lake.read(IMAGES).where(f"sha256 = '{sha256}'").collect()
    return {(row["status"], row["detail"], row["bytes"] is not None) for row in rows}


@dataclass(frozen=True)
class Marked:
    """A lake of many pictures, marked three times: as nothing asks for it, as is asked, and again."""

    lake: Lake
    counts: list[int]
    versions: list[int]


@pytest.fixture(scope="module")
def marked(new_lake, fill) -> Marked:
    pictures = [
        answers(REMOVED, *REMOVED_URLS),
        answers(RARE, "http://a.test/3"),
        answers(REFUSED, *FOUR_HOSTS, status="hash_mismatch"),
        answers(COMMON, *FOUR_HOSTS, status="not_an_image"),
        *(answers(sha_of(name), *urls) for name, urls in SELDOM.items()),
    ]
    done = Marked(fill(new_lake(), **everything(*pictures)), [], [])
    for asked in (PlaceholderSettings(urls=None, hosts=0), OFTEN, OFTEN):
        done.counts.append(mark_placeholders(done.lake, asked))
        done.versions.append(done.lake.version(IMAGES))
    return done


def test_a_picture_behind_many_urls_and_hosts_is_marked_and_loses_its_bytes(marked):
    assert ends(marked.lake, REMOVED) == {("placeholder", "one picture behind 5 urls of 3 hosts", False)}
    assert ends(marked.lake, RARE) == {("ok", None, True)}


def test_an_image_removed_picture_is_known_as_one_where_the_promised_hash_refused_it(marked):
    assert {status for status, _, _ in ends(marked.lake, REFUSED)} == {"placeholder"}
    assert {status for status, _, _ in ends(marked.lake, COMMON)} == {"not_an_image"}


@pytest.mark.parametrize("name", SELDOM)
def test_a_picture_met_no_more_often_than_the_settings_allow_stays(marked, name):
    assert {status for status, _, _ in ends(marked.lake, sha_of(name))} == {"ok"}


def test_marking_again_changes_nothing(marked):
    assert marked.counts[1:] == [9, 0]
    assert marked.versions[2] == marked.versions[1]


def test_no_mark_is_made_where_the_settings_ask_for_none(marked):
    assert marked.counts[0] == 0
    assert marked.versions[0] < marked.versions[1]


def test_delta_rs_sees_the_marks(marked):
    table = DeltaRsTable(f"{marked.lake.settings.root}/images")
    query = "SELECT status, count(*) AS rows FROM images GROUP BY status"
    found = QueryBuilder().register("images", table).execute(query).read_all()
    assert dict(zip(*(found[name].to_pylist() for name in ("status", "rows")), strict=True)) == {
        "placeholder": 9,
        "not_an_image": 4,
        "ok": 1 + 3 + 18 + 9,
    }


def test_later_rows_join_those_that_are_marked(filled):
    lake = filled(**everything(answers(REMOVED, *FOUR_HOSTS)))
    mark_placeholders(lake, OFTEN)
    filled(**everything(answers(REMOVED, "http://e.test/late")))
    assert mark_placeholders(lake, OFTEN) == 1
    assert {(status, kept) for status, _, kept in ends(lake, REMOVED)} == {("placeholder", False)}


def test_marking_keeps_the_other_images_of_the_files_that_it_rewrites(filled):
    """Without deletion vectors, which other engines cannot read, a changed row takes its file along."""
    removed = answers(REMOVED, *(f"http://{host}.test/" for host in "abcd"))
    rare = answers(RARE, *(f"http://a.test/{page}" for page in range(4)))
    both = everything(removed, rare)
    lake = filled(samples=both["samples"], images=sorted(both["images"], key=lambda row: row["uid"]))
    assert files_of(lake, RARE) & files_of(lake, REMOVED)
    kept = lake.read(IMAGES).where(f"sha256 = '{RARE}'")
    before = sorted(kept.collect())
    mark_placeholders(lake, OFTEN)
    assert sorted(lake.read(IMAGES).where(f"sha256 = '{RARE}'").collect()) == before


def files_of(lake: Lake, sha256: str) -> set[str]:
    rows = lake.read(IMAGES).where(f"sha256 = '{sha256}'").select("_metadata.file_path").distinct()
    return {row["file_path"] for row in rows.collect()}
