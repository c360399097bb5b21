"""Shards say of their pictures what stands beside them, and of themselves what is wrong with them."""

import pyarrow as pa
import pytest
from img2dataset_shards import UIDS, described, picture, write_parquet, write_tar

from recap_spark.errors import InputError
from recap_spark.workers.shards.shard_listing import list_shards


def test_a_tar_describes_its_pictures_by_json_or_by_a_key_that_is_a_uid(tmp_path):
    write_tar(
        tmp_path / "00000.tar",
        ("000000000", picture(), {"uid": UIDS[1], "sha256": "a" * 64, "status": "success"}),
        (UIDS[2], picture(), {}),
        (f"{UIDS[3]}-1", picture(), None),
        ("000000003", picture(), {"uid": "no uid", "sha256": "b" * 64}),
        ("000000004", picture(), b"{" * 100_000),
        ("000000005", picture(), b'{"n": ' + b"9" * 5000 + b"}"),
        ("000000006", picture(), b'["a list"]'),
        ("000000007", picture(), b'{"uid": 7, "sha256": null}'),
    )
    found = [
        (row["position"], row["key"], row["uid"], row["sha256"], row["state"]) for row in described(tmp_path)
    ]
    assert found == [
        (0, "000000000", UIDS[1], "a" * 64, "picture"),
        (3, UIDS[2], UIDS[2], None, "picture"),
        (6, f"{UIDS[3]}-1", UIDS[3], None, "picture"),
        (8, "000000003", None, "b" * 64, "picture"),
        *((3 * at - 1, f"00000000{at}", None, None, "picture") for at in range(4, 8)),
    ]


def test_a_side_file_speaks_for_its_tar_and_names_what_img2dataset_failed_at(tmp_path):
    write_tar(tmp_path / "00000.tar", ("000000000", picture(), None))
    rows = [
        {"key": "000000000", "uid": UIDS[0], "sha256": "a" * 64, "status": "success"},
        {"key": "000000001", "uid": UIDS[1], "sha256": None, "status": "failed_to_download"},
    ]
    write_parquet(tmp_path / "00000.parquet", *rows)
    found = [(row["file"], row["uid"], row["state"]) for row in described(tmp_path)]
    assert found == [("00000.tar", UIDS[0], "picture"), ("00000.tar", UIDS[1], "failed")]


@pytest.mark.parametrize("damage", ["truncated", "without keys"])
def test_a_useless_side_file_is_said_and_the_tar_speaks_for_itself(tmp_path, damage):
    write_tar(tmp_path / "00000.tar", ("000000000", picture(), {"uid": UIDS[0]}))
    side = write_parquet(tmp_path / "00000.parquet", {"uid": UIDS[5]}, uid=pa.string())
    if damage == "truncated":
        side.write_bytes(side.read_bytes()[:-5])
    fault, row = described(tmp_path)
    assert (fault["file"], fault["state"]) == ("00000.parquet", "unreadable_file")
    assert (row["file"], row["uid"]) == ("00000.tar", UIDS[0])


def test_files_that_hold_no_pictures_are_faults_that_say_what_was_found(tmp_path):
    write_parquet(tmp_path / "a.parquet", {"name": "Ann"}, name=pa.string())
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "c.tar").write_bytes(b"<html>404</html>" * 100)
    (tmp_path / "d.tar").write_bytes(b"")
    found = {row["file"]: (row["state"], row["detail"]) for row in described(tmp_path)}
    assert found["a.parquet"][0] == "missing_columns"
    assert "found ['name']" in found["a.parquet"][1]
    assert [found[name][0] for name in ("b.parquet", "c.tar", "d.tar")] == ["unreadable_file"] * 3
    assert "not a tar header" in found["c.tar"][1]
    assert found["d.tar"][1] == "ends without tar's end mark"


def test_listing_passes_over_unfinished_work_and_says_when_there_is_nothing(tmp_path):
    write_tar(tmp_path / "part" / "00000.tar", ("a", picture(), None))
    write_tar(tmp_path / "_tmp" / "00001.tar", ("a", picture(), None))
    (tmp_path / "00000_stats.json").write_text("{}")
    assert [one.path for one in list_shards(str(tmp_path))] == ["part/00000.tar"]
    (tmp_path / "part" / "00000.tar").unlink()
    for source, said in ((tmp_path, "found none in"), (tmp_path / "nowhere", "want a folder")):
        with pytest.raises(InputError, match=said):
            list_shards(str(source))


def test_a_parquet_column_of_pictures_alone_is_keyed_by_row(tmp_path):
    write_parquet(tmp_path / "0.parquet", {"jpg": picture(1)}, {"jpg": picture(2)}, jpg=pa.binary())
    assert [(row["key"], row["uid"], row["state"]) for row in described(tmp_path)] == [
        ("0", None, "picture"),
        ("1", None, "picture"),
    ]
