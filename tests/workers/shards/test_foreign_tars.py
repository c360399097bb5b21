"""Whatever a tar and its side file hold, each of their pictures, keys and rows ends in one description."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from img2dataset_shards import UIDS, described, member, picture, write_parquet

from recap_spark.workers.shards.claims import NOTHING_SAID, SAID, SideRows, claims_in_json, claims_of
from recap_spark.workers.shards.member_names import member_name
from recap_spark.workers.shards.parquet_shards import describe_parquet, side_rows
from recap_spark.workers.shards.shard_files import Described, ShardFault
from recap_spark.workers.shards.tar_shards import describe_tar

JPEG = picture()


def write(path: Path, *members: tuple[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode, encoding="utf-8", errors="surrogateescape") as archive:
        for name, body in members:
            member(archive, name, body)


def in_json(**said: str) -> bytes:
    return json.dumps(said).encode()


def told(folder: Path) -> list[tuple]:
    return [(row["key"], row["uid"], row["state"]) for row in described(folder)]


@pytest.mark.parametrize("prefix", ["00000/", "./", "a/b/"])
def test_a_tar_of_a_folder_meets_its_side_file_in_whatever_order_its_members_are(tmp_path, prefix):
    names = [("1.txt", b""), ("0.json", b"{}"), ("0.jpg", JPEG), ("1.json", b"{}"), ("1.jpg", JPEG)]
    write(tmp_path / "0.tar", *((f"{prefix}00{name}", body) for name, body in names))
    side = [{"key": f"00{at}", "uid": UIDS[at], "status": "success"} for at in range(3)]
    write_parquet(tmp_path / "0.parquet", *side)
    found = [(row["position"], row["uid"], row["state"]) for row in described(tmp_path)]
    assert found == [(2, UIDS[0], "picture"), (4, UIDS[1], "picture"), (-1, UIDS[2], "picture")]


def test_a_picture_is_known_by_any_suffix_or_by_its_bytes(tmp_path):
    kinds = {"a.JPEG": "JPEG", "b.webp": "WEBP", "c.Png": "PNG", "d.bmp": "BMP", "e.tif": "TIFF"}
    kinds |= {"f.gif": "GIF", "g": "PNG", "h.data": "AVIF", "i.pyd": "WEBP"}
    write(tmp_path / "0.tar", *((name, picture(1, kind)) for name, kind in kinds.items()))
    assert told(tmp_path) == [(name[0], None, "picture") for name in kinds]


def test_what_is_no_picture_is_said_once_a_key(tmp_path):
    write(
        tmp_path / "0.tar",
        ("._a.jpg", b"AppleDouble"),
        ("a.jpg", JPEG),
        ("b.txt", b"BMW for sale"),
        ("b.json", b"{}"),
        ("c.mp4", b"video"),
    )
    assert told(tmp_path) == [
        ("a", None, "picture"),
        *((key, None, "unrecognised") for key in ("._a.jpg", "b", "c")),
    ]


def test_a_json_that_cannot_be_read_is_said_beside_its_picture(tmp_path):
    files = [("a.jpg", JPEG), ("a.json", in_json(uid=UIDS[1]))]
    (tmp_path / "0.tar").write_bytes(tar_of(files, {1: "broken pax"}))
    assert told(tmp_path) == [("a", None, "picture"), ("a", None, "unreadable")]
    assert described(tmp_path)[1]["detail"] == "broken pax records"


def test_names_that_are_no_utf_8_meet_the_same_bytes_in_the_side_file(tmp_path):
    name = b"caf\xe9"
    write(tmp_path / "0.tar", (name.decode(errors="surrogateescape") + ".jpg", JPEG))
    write_parquet(tmp_path / "0.parquet", {"key": name, "uid": UIDS[1]}, key=pa.binary(), uid=pa.string())
    assert told(tmp_path) == [("caf\u00e9", UIDS[1], "picture")]


def test_two_members_of_one_name_are_two_pictures(tmp_path):
    write(
        tmp_path / "0.tar",
        ("a.jpg", JPEG),
        ("a.json", in_json(uid=UIDS[1])),
        ("a.jpg", JPEG),
    )
    assert told(tmp_path) == [("a", UIDS[1], "picture")] * 2


def test_json_beside_a_picture_goes_before_a_side_file_of_another_download(tmp_path):
    write(tmp_path / "0.tar", ("a.jpg", JPEG), ("a.json", in_json(uid=UIDS[1])))
    write_parquet(tmp_path / "0.parquet", {"key": "a", "uid": UIDS[2], "status": "success"})
    assert told(tmp_path) == [("a", UIDS[1], "picture"), ("a", UIDS[2], "picture")]
    assert [row["position"] for row in described(tmp_path)] == [0, -1]


def test_compressed_tars_are_read_and_a_cut_one_keeps_what_came_before(tmp_path):
    noise = [(f"{at}.jpg", JPEG + random.Random(at).randbytes(100_000)) for at in range(3)]
    for name, mode in (("0.tgz", "w:gz"), ("1.tar.bz2", "w:bz2"), ("2.tar", "w:gz")):
        write(tmp_path / name, *noise, mode=mode)
    assert Counter(row["state"] for row in described(tmp_path)) == {"picture": 9}
    whole = (tmp_path / "2.tar").read_bytes()
    (tmp_path / "2.tar").write_bytes(whole[: len(whole) // 2])
    assert [row["state"] for row in described(tmp_path)[6:]] == ["picture", "unreadable_file"]


def test_an_md5_of_these_very_bytes_proves_that_they_are_the_download(tmp_path):
    url, md5 = "http://x.test/", hashlib.md5(JPEG).hexdigest().upper()
    same, other = in_json(url=url, md5=md5), in_json(url=url, md5="0" * 32)
    write(tmp_path / "0.tar", ("a.jpg", JPEG), ("a.json", same), ("b.jpg", JPEG), ("b.json", other))
    sha256 = hashlib.sha256(JPEG).hexdigest()
    found = [(row["sha256"], row["own_sha256"], row["url"]) for row in described(tmp_path)]
    assert found == [(sha256, sha256, url), (None, sha256, url)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_json_in_any_encoding_says_what_it_says(encoding):
    said = json.dumps({"url": "http://x.test/\u00e9", "sha256": " " + "A" * 64}, ensure_ascii=False)
    found = claims_in_json(said.encode(encoding))
    assert (found.url, found.sha256) == ("http://x.test/\u00e9", "a" * 64)


OBJECTS = st.dictionaries(
    st.sampled_from(SAID),
    st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text()) | st.sampled_from(UIDS),
)


@given(st.binary() | (OBJECTS | st.text() | st.lists(OBJECTS)).map(lambda said: json.dumps(said).encode()))
def test_any_json_and_any_bytes_say_something_storable_or_nothing(body):
    found = claims_in_json(body)
    assert pa.array([found.uid, found.sha256, found.md5, found.url], pa.string()).null_count <= 4


def test_half_a_surrogate_pair_is_no_url():
    assert claims_in_json(b'{"url": "\\ud800"}') == NOTHING_SAID


VALUES = st.sampled_from(
    [
        pa.array(UIDS[:3]),
        pa.array([b"\xff", UIDS[1].encode(), None]),
        pa.array([1, None, 3]),
        pa.array([0.5, None, float("nan")]),
        pa.array([["a"], None, []]),
        pa.array([{"a": 1}, None, {"a": 2}]),
        pa.array([None, None, None]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
    ]
)


@settings(max_examples=40, deadline=None)
@given(columns=st.fixed_dictionaries({"key": VALUES}, optional={name: VALUES for name in (*SAID, "jpg")}))
def test_columns_of_any_type_make_a_side_file_whose_rows_are_all_there(tmp_path_factory, columns):
    folder = tmp_path_factory.getbasetemp()
    pq.write_table(pa.table(columns), folder / "any.parquet")
    found = side_rows(str(folder), "any.parquet").rows
    assert len(found) == 3
    pa.array([key for key, _ in found], pa.string())
    assert len(list(describe_parquet(str(folder), "any.parquet", largest_bytes=9))) == 3


LETTERS = st.sampled_from("ab./_") | st.characters(exclude_characters="\x00", codec="utf-8")
USUAL = st.builds(
    "{}{}.{}".format,
    st.sampled_from(["", "x/", "./"]),
    st.sampled_from("abc"),
    st.sampled_from(["jpg", "json", "TXT", "Webp", "bin"]),
)
BODIES = st.binary(max_size=30) | st.just(JPEG)
FILES = st.lists(st.tuples(st.text(LETTERS, min_size=1, max_size=12) | USUAL, BODIES), max_size=8)
PLACES = st.integers(0, 9000)
STATUS = st.sampled_from(["success", "failed_to_download"])
OF_SIDE = st.fixed_dictionaries({}, optional={"uid": st.sampled_from(UIDS[:3]), "status": STATUS})
WHY = {"sparse": "sparse", "sparse of pax": "sparse", "broken pax": "broken pax records"}
SPOILED = st.dictionaries(st.integers(0, 7), st.sampled_from(sorted(WHY)), max_size=3)
SIDE = st.lists(st.tuples(st.sampled_from("abcd") | st.text(max_size=3), OF_SIDE), max_size=4)


def found_in(folder: Path, tar: bytes, rows: SideRows, *, is_cut: bool) -> list[Described]:
    (folder / "any.tar").write_bytes(tar)
    found: list[Described] = []
    with suppress(ShardFault) if is_cut else nullcontext():
        found.extend(describe_tar(str(folder), "any.tar", side=rows, largest_bytes=1000))
    return found


@settings(max_examples=150, deadline=None)
@given(files=FILES, side=SIDE, packed=st.booleans(), spoiled=SPOILED)
def test_every_member_and_every_side_row_is_in_one_count(tmp_path_factory, files, side, packed, spoiled):
    """A member that cannot be read costs itself alone."""
    whole = tar_of(files, spoiled)
    rows = SideRows([(key, claims_of(said)) for key, said in side])
    found = found_in(
        tmp_path_factory.getbasetemp(), gzip.compress(whole) if packed else whole, rows, is_cut=False
    )
    pictures = [one for one in found if one.state == "picture" and one.position >= 0]
    others = [one.key for one in found if one.state == "unrecognised"]
    kept = [
        (member_name(name), body if at not in spoiled else None)
        for at, (name, body) in enumerate(files)
        if not name.endswith("/")
    ]
    assert [one.position for one in pictures] == [
        at for at, (name, body) in enumerate(kept) if body is not None and name.is_picture(body[:16])
    ]
    bare = {name.key: name for name, _ in kept if name.key not in {one.key for one in pictures}}
    assert others == [key for key, name in bare.items() if rows.about(name) is None]
    unreadable = [(one.key, one.detail) for one in found if one.state == "unreadable"]
    assert unreadable == [
        (member_name(name).key, WHY[spoiled[at]])
        for at, (name, _) in enumerate(files)
        if at in spoiled and not name.endswith("/")
    ]
    # Each row of the side file has found a picture, or is described itself.
    assert len(found) - len(pictures) - len(others) - len(unreadable) == len(list(rows.without_picture()))


@settings(max_examples=100, deadline=None)
@given(files=FILES, side=SIDE, at=PLACES, words=st.binary(max_size=20), cut=PLACES, spoiled=SPOILED)
def test_a_damaged_tar_counts_each_picture_once_and_ends_in_a_fault_at_most(
    tmp_path_factory, files, side, at, words, cut, spoiled
):
    tar = bytearray(tar_of(files, spoiled))
    tar[at : at + len(words)] = words
    rows = SideRows([(key, claims_of(said)) for key, said in side])
    found = found_in(tmp_path_factory.getbasetemp(), bytes(tar[: max(0, len(tar) - cut)]), rows, is_cut=True)
    places = [one.position for one in found if one.state == "picture"]
    assert len(set(places)) == len(places)


def tar_of(files: list[tuple[str, bytes]], spoiled: dict[int, str]) -> bytes:
    """The files, some of which no reader can use though all others are where they should be."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", encoding="utf-8") as archive:
        for at, (name, body) in enumerate(files):
            how = spoiled.get(at)
            if how == "broken pax":
                member(archive, "records", b"no records", kind=tarfile.XHDTYPE)
            records = {"GNU.sparse.major": "1"} if how == "sparse of pax" else {}
            kind = tarfile.GNUTYPE_SPARSE if how == "sparse" else tarfile.REGTYPE
            member(archive, name, body, kind=kind, records=records)
    return out.getvalue()
