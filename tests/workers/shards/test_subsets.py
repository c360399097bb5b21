"""Subset files are DataComp's, bit for bit, and what is no such file is refused by name."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from recap_spark.errors import InputError
from recap_spark.workers.shards.subsets import check_sorted, contains, halves, open_subset, pack_uids

UIDS = sorted(hashlib.md5(str(number).encode()).hexdigest() for number in range(500))
EDGES = ["0" * 32, "7" + "f" * 31, "8" + "0" * 31, "f" * 32, "0" * 16 + "f" * 16, "f" * 16 + "0" * 16]


def as_datacomp_does(uids: list[str]) -> np.ndarray:
    """The way of baselines/apply_filter.py."""
    return np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], np.dtype("u8,u8"))


def test_uids_are_packed_as_datacomp_packs_them():
    assert halves(UIDS + EDGES).tobytes() == as_datacomp_does(UIDS + EDGES).tobytes()


def test_sorted_digits_are_sorted_numbers_with_unsigned_halves():
    ordered = sorted(UIDS + EDGES)
    assert (np.sort(as_datacomp_does(UIDS + EDGES)) == halves(ordered)).all()


def test_membership_is_exact_at_both_ends_and_between_neighbours():
    subset = halves(sorted(UIDS[::2] + EDGES[:4] + EDGES[:1]))
    asked = UIDS + EDGES
    expected = [uid in {*UIDS[::2], *EDGES[:4]} for uid in asked]
    assert contains(subset, asked).tolist() == expected
    assert contains(halves([]), asked).tolist() == [False] * len(asked)
    assert contains(subset, []).tolist() == []


def test_a_file_of_datacomps_is_mapped_and_read(tmp_path):
    np.save(tmp_path / "s.npy", as_datacomp_does(UIDS))
    found = open_subset(str(tmp_path / "s.npy"))
    assert isinstance(found, np.memmap)
    check_sorted(found, path="s.npy")
    assert contains(found, UIDS).all()


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    path = str(tmp_path / "s.npy")
    for uids in (UIDS, UIDS[:1]):
        np.save(tmp_path / "new.npy", as_datacomp_does(uids))
        (tmp_path / "new.npy").replace(path)
        assert len(open_subset(path)) == len(uids)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(3, "u8"), "want one dimension of"),
        (np.zeros((3, 2), "u8,u8"), "in 2 dimensions"),
        (np.zeros(3, "i8,i8"), "found"),
        (np.zeros(3, ">u8,>u8"), "found"),
    ],
)
def test_an_array_of_another_kind_is_refused(tmp_path, array, said):
    np.save(tmp_path / "s.npy", array)
    with pytest.raises(InputError, match=said):
        open_subset(str(tmp_path / "s.npy"))


def test_pickles_missing_and_broken_files_are_refused(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("pickled.npy", "broken.npy", "empty.npy", "none.npy"):
        with pytest.raises(InputError, match=name):
            open_subset(str(tmp_path / name))


@pytest.mark.parametrize("at", [1, 250, 499])
def test_an_entry_out_of_order_is_named(at):
    uids = [*UIDS[:at], "0" * 32, *UIDS[at:]]
    with pytest.raises(InputError, match=f"entry {at} out of order"):
        check_sorted(halves(uids), path="s.npy")
    check_sorted(halves(sorted(uids * 2)), path="s.npy")


@pytest.mark.parametrize("uid", [None, "", "A" * 32, "f" * 31, "f" * 33, " " + "f" * 31, "0x" + "f" * 30])
def test_what_is_no_uid_is_not_packed(uid):
    batch = pa.RecordBatch.from_pylist(
        [{"uid": UIDS[0]}, {"uid": uid}], schema=pa.schema({"uid": pa.string()})
    )
    (row,) = next(iter(pack_uids([batch]))).to_pylist()
    assert row["packed"] is None
    assert row["refused"] == ("null" if uid is None else repr(uid))
