from __future__ import annotations

import hashlib
import io
import math
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from recap_spark.workers.fetching.download import NO_HASH
from recap_spark.workers.fetching.failures import FetchError
from recap_spark.workers.fetching.fetcher import fetch_rows
from recap_spark.workers.fetching.urls import allowed_url


def batch(urls, *, sha256=None, **columns):
    uids = [f"{number:032x}" for number in range(len(urls))]
    return pa.RecordBatch.from_pydict(
        {
            "uid": pa.array(uids, pa.string()),
            "url": pa.array(urls, pa.string()),
            "sha256": pa.array(sha256 or [None] * len(urls), pa.string()),
            **columns,
        }
    )


@pytest.fixture
def fetch_batches(decode, rules):
    return partial(fetch_rows, decode=decode, rules=rules)


@pytest.fixture
def fetched(decode, rules):
    def fetched(batches, limits, decode=decode, **changes):
        found = fetch_rows(batches, settings=limits, decode=decode, rules=replace(rules, **changes))
        return [row for batch in found for row in batch.to_pylist()]

    return fetched


def test_a_row_that_is_fetched_has_bytes_facts_and_hash(web, limits, fetched):
    (row,) = fetched([batch([web.url("images/c.webp")])], limits)
    body = web.pictures["c.webp"]
    assert datetime.now(UTC) - row.pop("fetched_at") < timedelta(minutes=1)
    assert row == {
        "uid": f"{0:032x}",
        "status": "ok",
        "detail": None,
        "bytes": body,
        "sha256": hashlib.sha256(body).hexdigest(),
        "sha256_matches": None,
        "md5": None,
        "sha512": None,
        "exif": None,
        "width": 64,
        "height": 48,
        "format": "webp",
        "attempts": 1,
    }


def test_the_batches_have_exactly_the_promised_columns(web, limits, fetch_batches):
    (found,) = fetch_batches([batch([web.url("images/a.jpg"), None])], settings=limits)
    assert [(field.name, str(field.type)) for field in found.schema] == [
        ("uid", "string"),
        ("status", "string"),
        ("detail", "string"),
        ("bytes", "binary"),
        ("sha256", "string"),
        ("sha256_matches", "bool"),
        ("md5", "string"),
        ("sha512", "string"),
        ("exif", "string"),
        ("width", "int32"),
        ("height", "int32"),
        ("format", "string"),
        ("attempts", "int32"),
        ("fetched_at", "timestamp[us, tz=UTC]"),
    ]


@pytest.mark.parametrize(
    ("path", "status", "attempts"),
    [
        ("images/a.jpg", "ok", 1),
        ("mislabelled/a.jpg", "ok", 1),
        ("webpage/a.jpg", "not_an_image", 1),
        ("truncated/a.jpg", "undecodable", 1),
        ("missing/a.jpg", "gone", 1),
        ("cut/a.jpg", "incomplete", 2),
        ("oversized/a.jpg", "too_large", 1),
    ],
)
def test_only_a_proven_picture_keeps_its_bytes(web, limits, path, status, attempts, fetched):
    (row,) = fetched([batch([web.url(path)])], limits)
    assert (row["status"], row["attempts"]) == (status, attempts)
    assert [name for name in ("bytes", "width", "height", "format") if row[name] is None] == (
        [] if status == "ok" else ["bytes", "width", "height", "format"]
    )
    assert (row["sha256"] is not None) == (status in ("ok", "not_an_image", "undecodable"))


def test_too_many_pixels_by_the_settings_is_a_status(web, limits, decode, fetched):
    (row,) = fetched([batch([web.url("images/a.jpg")])], limits, replace(decode, largest_pixels=100))
    assert (row["status"], row["detail"], row["bytes"]) == ("too_many_pixels", "64 x 48", None)


def test_the_promised_hash_is_compared(web, limits, fetched):
    right = hashlib.sha256(web.pictures["a.jpg"]).hexdigest()
    asked = batch([web.url("images/a.jpg"), web.url("swapped/a.jpg")], sha256=[right, right])
    rows = sorted(fetched([asked], limits), key=lambda row: row["uid"])
    assert [(row["status"], row["sha256_matches"], row["bytes"] is None) for row in rows] == [
        ("ok", True, False),
        ("hash_mismatch", False, True),
    ]
    assert rows[1]["sha256"] == hashlib.sha256(web.pictures["b.png"]).hexdigest()
    kept = fetched([asked], replace(limits, hash_mismatch="keep"))
    assert [row["status"] for row in kept] == ["ok", "ok"]
    assert {row["sha256_matches"] for row in kept} == {True, False}
    spelled = batch([web.url("images/a.jpg")] * 3, sha256=[f" {right.upper()}\n", right[:-1], " "])
    rows = sorted(fetched([spelled], limits), key=lambda row: row["uid"])
    assert [(row["status"], row["sha256_matches"], row["detail"]) for row in rows] == [
        ("ok", True, None),
        ("ok", None, NO_HASH),
        ("ok", None, None),
    ]
    unseen = fetched([asked], replace(limits, hash_mismatch="ignore"))
    assert {(row["status"], row["sha256_matches"]) for row in unseen} == {("ok", None)}


@pytest.mark.parametrize("name", ["md5", "sha512"])
def test_another_hash_is_stored_beside_sha256_and_of_the_bytes_that_came(web, limits, fetched, name):
    asked = batch([web.url("images/a.jpg"), web.url("webpage/a.jpg"), web.url("missing/a.jpg")])
    found = fetched([asked], replace(limits, compute_hash=name), reencode="always", resize_mode="no")
    picture, page, nothing = sorted(found, key=lambda row: row["uid"])
    body = web.pictures["a.jpg"]
    assert picture["bytes"] != body
    assert {picture["sha256"], picture[name]} == {
        hashlib.new(kind, body).hexdigest() for kind in ("sha256", name)
    }
    assert len(page[name]) == len(picture[name])
    assert (nothing["sha256"], nothing[name]) == (None, None)
    assert {row["md5" if name == "sha512" else "sha512"] for row in found} == {None}


def test_a_page_instead_of_the_promised_picture_is_no_image_rather_than_another_hash(web, limits, fetched):
    (row,) = fetched([batch([web.url("webpage/a.jpg")], sha256=["0" * 64])], limits)
    assert (row["status"], row["sha256_matches"], row["bytes"]) == ("not_an_image", False, None)


def test_every_row_in_has_one_row_out_even_twice_the_same(web, limits, fetched):
    paths = ["images/a.jpg", "missing/a.jpg", "webpage/a.jpg", "garbage/a.jpg", "error/a.jpg"] * 30
    urls = [web.url(path) for path in paths] + [None, "", "not a url", "http://[", "data:,"] * 10
    asked = [batch(urls), batch([]), batch(urls)]
    rows = fetched(asked, limits)
    assert sorted(row["uid"] for row in rows) == sorted(
        uid for one in asked for uid in one.column("uid").to_pylist()
    )


def test_a_url_that_is_no_utf_8_is_a_bad_url_among_others(web, limits, fetched):
    urls = pa.array([b"\xff", web.url("images/a.jpg").encode(), web.url("images/\xff.jpg").encode("latin-1")])
    asked = batch([None] * 3).set_column(1, "url", pa.Array.from_buffers(pa.string(), 3, urls.buffers()))
    rows = sorted(fetched([asked], limits), key=lambda row: row["uid"])
    no_text = ("bad_url", "no UTF-8")
    assert [(row["status"], row["detail"]) for row in rows] == [no_text, ("ok", None), no_text]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(urls=st.lists(st.none() | st.text() | st.from_regex(r"https?://[^/]*(:\w*)?/.*"), max_size=20))
def test_any_text_is_a_url_that_may_be_asked_or_a_status(limits, urls):
    assert {judged(url, limits) for url in urls} <= {
        "http",
        "https",
        "bad_url",
        "unsupported_scheme",
        "opted_out",
    }


def judged(url, limits):
    try:
        return allowed_url(url, limits=limits).scheme
    except FetchError as error:
        return str(error.status)


def test_batches_are_closed_by_rows_and_by_bytes(web, limits, fetch_batches):
    asked = [batch([web.url("images/b.png")] * 20)]
    by_rows = list(fetch_batches(asked, settings=replace(limits, batch_rows=8)))
    assert [found.num_rows for found in by_rows] == [8, 8, 4]
    three = 3 * len(web.pictures["b.png"])
    by_bytes = list(fetch_batches(asked, settings=replace(limits, batch_bytes=three)))
    assert [found.num_rows for found in by_bytes] == [3, 3, 3, 3, 3, 3, 2]
    alone = list(fetch_batches(asked, settings=replace(limits, batch_bytes=1)))
    assert [found.num_rows for found in alone] == [1] * 20


def test_a_picture_that_breaks_its_decoder_is_one_status_among_sound_neighbours(
    limits, decode, handled, fetched
):
    swelling = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(swelling, "PNG", compress_level=1)
    sound = io.BytesIO()
    Image.new("L", (9, 9)).save(sound, "PNG")

    def answer(handler):
        handler.reply(200, (swelling if handler.path == "/swelling.png" else sound).getvalue())

    paths = ["sound.png", "sound.png", "swelling.png", "sound.png"]
    tight = replace(decode, largest_pixels=100_000_000, memory_bytes=32 << 20)
    with handled(answer) as server:
        asked = [batch([server.url.replace("a.jpg", path) for path in paths])]
        rows = sorted(fetched(asked, limits, tight), key=lambda row: row["uid"])
    assert [row["status"] for row in rows] == ["ok", "ok", "decoder_crash", "ok"]
    assert (rows[2]["bytes"], rows[2]["detail"]) == (None, "needs more than 32 MiB")
    assert rows[2]["sha256"] == hashlib.sha256(swelling.getvalue()).hexdigest()


def test_faces_are_blurred_or_refused_and_the_hash_stays_that_of_the_bytes_that_came(web, limits, fetched):
    body = web.pictures["b.png"]
    asked = batch(
        [web.url("images/b.png")] * 4,
        sha256=[hashlib.sha256(body).hexdigest()] * 4,
        face_bboxes=pa.array(
            [
                [[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.4, 0.2]],
                [],
                None,
                [None, [], [math.nan] * 4, [0.1, None, 0.2, 0.3]],
            ],
            pa.list_(pa.list_(pa.float64())),
        ),
    )
    blurred, *kept, refused = sorted(fetched([asked], limits), key=lambda row: row["uid"])
    assert [row["bytes"] for row in kept] == [body] * 2
    assert blurred["bytes"] != body
    assert (refused["status"], refused["bytes"]) == ("bad_face_box", None)
    assert {(row["sha256"], row["sha256_matches"]) for row in (blurred, *kept, refused)} == {
        (hashlib.sha256(body).hexdigest(), True)
    }


def test_size_and_format_are_those_of_the_bytes_in_the_row(web, limits, fetched):
    (row,) = fetched([batch([web.url("images/a.jpg")])], limits, resize_mode="border", image_size=32)
    assert (row["width"], row["height"], row["format"]) == (32, 32, "png")
    with Image.open(io.BytesIO(row["bytes"])) as image:
        assert (image.size, image.format) == ((32, 32), "PNG")


def test_an_empty_partition_yields_nothing(limits, fetched):
    assert fetched([], limits) == []
    assert fetched([batch([])], limits) == []


def test_attempts_of_earlier_runs_are_carried_on(web, limits, fetched):
    asked = batch([web.url("missing/a.jpg")] * 2, attempts=pa.array([3, None], pa.int32()))
    assert sorted(row["attempts"] for row in fetched([asked], limits)) == [1, 4]


def test_the_limits_travel_to_a_worker(limits):
    assert pickle.loads(pickle.dumps(limits)) == limits
