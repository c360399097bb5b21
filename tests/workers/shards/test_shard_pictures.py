"""Pictures that img2dataset left behind are read by what stands beside them, and examined like fetched
ones.
"""

import hashlib
import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from img2dataset_shards import UIDS, described, picture, reading, write_parquet, write_tar
from PIL import Image, ImageStat

from recap_spark.workers.shards.shard_pictures import read_shards


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


WANTED = pa.schema(
    {
        "file": pa.string(),
        "wanted": pa.list_(
            pa.struct(
                {"position": pa.int64()}
                | {name: pa.string() for name in ("key", "uid", "expected", "recorded", "url")}
                | {"face_bboxes": pa.list_(pa.list_(pa.float64()))}
            )
        ),
    }
)


def read(folder: Path, file: str, *wanted: dict, **changed) -> dict[str, dict]:
    """Wanted by key, as the shard itself is described."""
    at = {row["key"]: row["position"] for row in described(folder) if row["file"] == file}
    unsaid = {"expected": None, "recorded": None, "url": "https://host.test/", "face_bboxes": None}
    full = [unsaid | {"position": at.get(one["key"], -1)} | one for one in wanted]
    batch = pa.RecordBatch.from_pylist([{"file": file, "wanted": full}], schema=WANTED)
    rows = [
        row for some in read_shards([batch], reading=reading(folder, **changed)) for row in some.to_pylist()
    ]
    assert len({row["uid"] for row in rows}) == len(rows)
    return {row["uid"]: row for row in rows}


def test_a_truncated_tar_keeps_what_was_read_before(tmp_path):
    whole = write_tar(tmp_path / "0.tar", *((str(at), picture(at), {"uid": UIDS[at]}) for at in range(5)))
    with tarfile.open(whole) as archive:
        within = archive.getmember("3.jpg").offset_data + 100
    whole.write_bytes(whole.read_bytes()[:within])
    rows = described(tmp_path)
    assert [row["uid"] for row in rows] == [*UIDS[:3], None]
    assert (rows[-1]["state"], rows[-1]["detail"]) == ("unreadable_file", "ends in the middle of '3.jpg'")
    wanted = [{"key": str(at), "uid": UIDS[at]} for at in range(5)]
    assert read(tmp_path, "0.tar", *wanted).keys() == set(UIDS[:3])


def test_every_picture_is_examined_and_ends_in_one_status(tmp_path):
    good = picture(1)
    write_tar(
        tmp_path / "0.tar",
        ("good", good, None),
        ("half", picture(2)[:400], None),
        ("page", b"<html>", None),
        ("large", picture(3) + b"\x00" * 10_000, None),
        ("png", picture(4, "PNG"), None),
        ("empty", b"", None),
    )
    keys = ("good", "half", "page", "large", "png", "empty")
    wanted = [{"key": key, "uid": uid} for key, uid in zip(keys, UIDS, strict=False)]
    rows = read(tmp_path, "0.tar", *wanted, largest_bytes=5000)
    found = {key: (rows[uid]["status"], rows[uid]["format"]) for key, uid in zip(keys, UIDS, strict=False)}
    assert found == {
        "good": ("ok", "jpeg"),
        "half": ("undecodable", None),
        "page": ("not_an_image", None),
        "large": ("too_large", None),
        "png": ("ok", "png"),
        "empty": ("not_an_image", None),
    }
    row = rows[UIDS[0]]
    assert (row["bytes"], row["sha256"], row["width"], row["height"]) == (good, sha(good), 9, 6)
    assert (row["attempts"], row["sha256_matches"]) == (0, None)


def test_pictures_are_refused_resized_and_blurred_by_the_rules_of_fetch(tmp_path):
    noise = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(noise, "PNG")
    write_tar(tmp_path / "0.tar", ("noise", noise.getvalue(), None), ("small", picture(), None))
    wanted = [
        {"key": "noise", "uid": UIDS[0]},
        {"key": "noise", "uid": UIDS[1], "face_bboxes": [[0.0, 0.0, 1.0, 1.0]]},
        {"key": "noise", "uid": UIDS[2], "face_bboxes": []},
        {"key": "small", "uid": UIDS[3]},
        {"key": "noise", "uid": UIDS[4], "face_bboxes": [[], None]},
    ]
    rules = {"min_image_size": 20, "resize_mode": "keep_ratio", "image_size": 24, "encode_quality": 95}
    rows = read(tmp_path, "0.tar", *wanted, rules=rules)
    assert [rows[uid]["status"] for uid in UIDS[:5]] == ["ok", "ok", "ok", "too_small", "bad_face_box"]
    sharp, blurred, other = (rows[uid] for uid in UIDS[:3])
    assert (sharp["width"], sharp["height"], sharp["format"]) == (32, 24, "jpeg")
    assert sharp["bytes"] == other["bytes"]
    assert contrast(blurred["bytes"]) < contrast(sharp["bytes"]) / 3
    assert {row["sha256"] for row in (sharp, blurred)} == {sha(noise.getvalue())}  # of what the shard held


def contrast(body: bytes) -> float:
    with Image.open(io.BytesIO(body)) as image:
        return ImageStat.Stat(image.convert("L")).stddev[0]


def test_a_picture_that_kills_its_decoder_costs_its_own_status_only(tmp_path):
    slow = io.BytesIO()
    Image.new("L", (6000, 6000)).save(slow, "PNG", compress_level=1)
    write_tar(
        tmp_path / "0.tar", ("a", picture(1), None), ("b", slow.getvalue(), None), ("c", picture(2), None)
    )
    wanted = [{"key": key, "uid": uid} for key, uid in zip("abc", UIDS, strict=False)]
    rows = read(tmp_path, "0.tar", *wanted, cpu_s=0.02)
    assert [rows[uid]["status"] for uid in UIDS[:3]] == ["ok", "decoder_crash", "ok"]


@pytest.mark.parametrize(
    ("expected", "recorded", "rule", "ends"),
    [
        ("a" * 64, "a" * 64, "refuse", ("ok", True, "a" * 64)),
        ("a" * 64, "b" * 64, "refuse", ("hash_mismatch", False, "b" * 64)),
        ("a" * 64, "b" * 64, "keep", ("ok", False, "b" * 64)),
        ("a" * 64, None, "refuse", ("ok", None, "own")),
        ("own", None, "refuse", ("ok", True, "own")),
        (None, "b" * 64, "refuse", ("ok", None, "b" * 64)),
    ],
)
def test_the_recorded_hash_of_the_download_is_held_against_the_metadata(
    tmp_path, expected, recorded, rule, ends
):
    body = picture()
    own = {"own": sha(body)}
    write_tar(tmp_path / "0.tar", ("k", body, None))
    want = {"key": "k", "uid": UIDS[0], "expected": own.get(expected, expected), "recorded": recorded}
    row = read(tmp_path, "0.tar", want, hash_mismatch=rule)[UIDS[0]]
    assert (row["status"], row["sha256_matches"], row["sha256"]) == (*ends[:2], own.get(ends[2], ends[2]))
    assert (row["bytes"] is None) == (row["status"] != "ok")


def test_another_hash_is_of_the_download_so_a_resized_picture_has_none(tmp_path):
    body = picture()
    write_tar(tmp_path / "0.tar", ("a", body, None), ("b", body, None))
    wanted = [
        {"key": "a", "uid": UIDS[0], "recorded": sha(body), "expected": "f" * 64},
        {"key": "b", "uid": UIDS[1], "recorded": "b" * 64, "expected": "f" * 64},
    ]
    rows = read(tmp_path, "0.tar", *wanted, compute_hash="md5", hash_mismatch="ignore")
    assert [rows[uid]["md5"] for uid in UIDS[:2]] == [hashlib.md5(body).hexdigest(), None]
    assert {(row["status"], row["sha256_matches"]) for row in rows.values()} == {("ok", None)}


def test_a_picture_in_another_place_than_it_was_described_at_is_nobodys(tmp_path):
    write_tar(tmp_path / "0.tar", ("a", picture(), None), ("b", picture(), None))
    assert read(tmp_path, "0.tar", {"key": "a", "uid": UIDS[0], "position": 3}) == {}


def test_one_picture_serves_every_sample_that_shares_its_hash(tmp_path):
    write_tar(tmp_path / "0.tar", ("a", picture(), {"sha256": "c" * 64}))
    wanted = [{"key": "a", "uid": uid, "expected": "c" * 64, "recorded": "c" * 64} for uid in UIDS[:3]]
    rows = read(tmp_path, "0.tar", *wanted)
    assert {uid: row["sha256_matches"] for uid, row in rows.items()} == dict.fromkeys(UIDS[:3], True)


def test_pictures_in_a_parquet_column_are_read_the_same_way(tmp_path):
    columns = {"key": pa.string(), "uid": pa.string(), "status": pa.string(), "jpg": pa.binary()}
    rows = [
        {"key": "0", "uid": UIDS[0], "status": "success", "jpg": picture(1)},
        {"key": "1", "uid": UIDS[1], "status": "failed_to_download", "jpg": None},
        {"key": "2", "uid": UIDS[2], "status": "success", "jpg": b"no picture"},
    ]
    write_parquet(tmp_path / "0.parquet", *rows, **columns)
    assert [row["state"] for row in described(tmp_path)] == ["picture", "failed", "picture"]
    found = read(tmp_path, "0.parquet", *({"key": str(at), "uid": UIDS[at]} for at in range(3)))
    assert {uid: row["status"] for uid, row in found.items()} == {UIDS[0]: "ok", UIDS[2]: "not_an_image"}
