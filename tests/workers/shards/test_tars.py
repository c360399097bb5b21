"""A tar is read as a stream: whatever it holds, names stay names, memory stays bounded, and a cut is said."""

import io
import tarfile

import pytest

from recap_spark.workers.shards.tars import Member, TarFault, members


def tar(*files: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, body in files:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


class Watched(io.BytesIO):
    """Remembers the largest read that was asked for."""

    largest = 0

    def read(self, size=-1, /):
        self.largest = max(self.largest, size)
        return super().read(size)


def read(data: bytes, wants=lambda one: True) -> list[Member]:
    return list(members(io.BytesIO(data), wants=wants))


LONG = "folder/" * 60 + "ä" * 100 + ".jpg"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_of_every_length_and_script_come_back(form):
    files = [("a.jpg", b"x"), (LONG, b"y" * 1000), ("ü/" + "b" * 90 + "/c.json", b""), ("ä\n\n", b"z" * 512)]
    assert [(one.name, one.body) for one in read(tar(*files, form=form))] == files


def test_ustar_puts_the_prefix_before_the_name():
    name = "p" * 120 + "/" + "n" * 90
    assert [one.name for one in read(tar((name, b"1"), form=tarfile.USTAR_FORMAT))] == [name]


def test_what_is_not_wanted_is_passed_over_in_pieces():
    data = Watched(tar(("big.bin", b"x" * 5_000_000), ("a.json", b"{}")))
    found = list(members(data, wants=lambda one: one.size < 100))
    assert found == [Member(0, "big.bin", 5_000_000, b"x" * 16, None), Member(1, "a.json", 2, b"{}", b"{}")]
    assert data.largest <= 1 << 20


def test_links_devices_and_folders_are_no_members():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("../../etc/passwd")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("after.txt"))
    assert [one.name for one in read(out.getvalue())] == ["after.txt"]


def test_a_tar_cut_at_any_byte_gives_what_came_before_and_says_that_it_is_cut():
    files = [(f"{number}.jpg", bytes([number]) * 700) for number in range(3)]
    whole = tar(*files)
    ends = 512 + 1024  # a header and its two blocks of data
    for cut in range(0, 3 * ends + 1, 7):
        kept: list[Member] = []
        with pytest.raises(TarFault, match="ends"):
            kept.extend(members(io.BytesIO(whole[:cut]), wants=lambda one: True))
        assert [(one.name, one.body) for one in kept] == files[: cut // ends]


def damaged(data: bytes, at: int, field: bytes) -> bytes:
    """The first header with a field changed and its checksum made good again."""
    block = bytearray(data[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block) + data[512:]


def sparse_of_old_gnu(name: str, *, blocks: int) -> bytes:
    """A sparse member whose map goes on for some blocks behind its header."""
    data = bytearray(tar((name, b"xy"), form=tarfile.GNU_FORMAT)[:1024])
    data[156:157], data[482] = b"S", int(blocks > 0)
    more = b"".join(b"\x00" * 504 + bytes([left > 1]) + b"\x00" * 7 for left in range(blocks, 0, -1))
    return damaged(bytes(data[:512]), 156, b"S") + more + bytes(data[512:])


def headed(records: bytes, name: str) -> bytes:
    """A member behind an extended header of such records."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("records")
        info.type, info.size = tarfile.XHDTYPE, len(records)
        archive.addfile(info, io.BytesIO(records))
        end = archive.offset
    return out.getvalue()[:end] + tar((name, b"xy"))[:1024]


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (sparse_of_old_gnu("b.jpg", blocks=0), "sparse"),
        (sparse_of_old_gnu("b.jpg", blocks=3), "sparse"),
        (headed(b"22 GNU.sparse.major=1\n25 GNU.sparse.name=b.jpg\n", "GNUSparseFile.0/b.jpg"), "sparse"),
        (headed(b"no records", "b.jpg"), "broken pax records"),
        (headed(b"14 path=b.jpg\n99 path=c.jpg\n", "truncated"), "broken pax records"),
    ],
    ids=["old sparse", "mapped", "pax sparse", "broken pax", "half broken pax"],
)
def test_a_member_that_is_not_readable_is_said_and_the_next_one_read(member, why):
    before, after = (tar((name, b"x"))[:1024] for name in ("a.jpg", "c.jpg"))
    found = read(before + member + after + b"\x00" * 1024)
    assert [(one.position, one.name, one.body) for one in found] == [
        (0, "a.jpg", b"x"),
        (1, "b.jpg", None),
        (2, "c.jpg", b"x"),
    ]
    assert [one.unreadable for one in found] == [None, why, None]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x1f\x8b" + b"\x07" * 1000, "not a tar header"),
        (damaged(tar(("a", b"x")), 124, b"99999999999\x00"), "octal"),
        (damaged(tar(("a", b"x")), 124, b"\xff" * 12), "a number of"),
        (damaged(tar((LONG, b"x"), form=tarfile.GNU_FORMAT), 124, b"77777777777\x00"), "extension of"),
        (tar((LONG, b"x")).replace(b"path=folder", b"path=folde", 1), "not a tar header|ends"),
        (damaged(tar(("a", b"x")), 124, b"\x80" + b"\x00" * 3 + b"\x7f" + b"\xff" * 7), "a member of"),
    ],
    ids=["gzip", "not octal", "negative", "endless name", "broken pax", "exabytes"],
)
def test_a_hostile_header_is_a_fault_that_costs_no_memory(data, said):
    stream = Watched(data)
    with pytest.raises(TarFault, match=said):
        list(members(stream, wants=lambda one: one.size < 1 << 20))
    assert stream.largest <= 1 << 20
