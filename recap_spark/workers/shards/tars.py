"""A stream of bytes → the members of a tar, one at a time, none of them trusted

Python's tarfile reads a header's extension of any length into memory and keeps every member it has seen. Here
a name is never used as a path, and nothing longer than its limit is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from recap_spark.workers.rows import repaired_text

_BLOCK = 512
_LONGEST_EXTENSION = 65536  # of a long name or of pax records; a path has at most 4096 bytes on Linux
_SKIPPED_AT_ONCE = 1 << 20
_HEAD = 16
_REGULAR = b"\x00", b"0", b"7"
_WITHOUT_DATA = b"1", b"2", b"3", b"4", b"5", b"6"  # links, devices, folders
_GNU_LONG_NAME, _GNU_LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"L", b"K", b"x", b"g", b"S"


Unreadable = Literal["sparse", "broken pax records"]
"""Why a member's bytes cannot be had: they lie in pieces, or what a header says of them is broken."""


class TarFault(Exception):  # noqa: N818  the field's word for what is wrong with a file
    """The stream is no tar, or ends early. The members that came before remain valid."""


class Stream(Protocol):
    """Bytes in order."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One file of the tar."""

    position: int  # among the files of the tar, from 0
    name: str  # repaired where it is no UTF-8: equal bytes, equal names
    size: int
    head: bytes  # its first bytes, by which a picture is known
    body: bytes | None  # None where it was not wanted
    unreadable: Unreadable | None = None


@dataclass(frozen=True)
class _Given:
    """What extension headers say of the member behind them."""

    path: str | None = None
    size: str | None = None
    unreadable: Unreadable | None = None

    def followed_by(self, later: _Given) -> _Given:
        """The same, but for what a later header says otherwise."""
        path = self.path if later.path is None else later.path
        size = self.size if later.size is None else later.size
        return _Given(path, size, later.unreadable or self.unreadable)


@dataclass(frozen=True)
class _Header:
    name: str
    size: int
    kind: bytes
    is_continued: bool  # the map of a sparse member goes on behind it


def members(stream: Stream, *, wants: Callable[[Member], bool]) -> Iterator[Member]:
    """The regular files of a tar (POSIX ustar and pax, GNU long names), in order.

    Bodies are read only of the members for which `wants` is true; the others are skipped, and so is an
    unreadable one: where it ends is known all the same. Raises TarFault at the place where the stream stops
    being a tar, or where it ends without tar's end mark.
    """
    given = _Given()
    position = 0
    while (header := _header(stream)) is not None:
        if header.kind in (_GNU_LONG_NAME, _PAX):
            given = given.followed_by(_extension(stream, header))
        elif header.kind in (*_REGULAR, _SPARSE):
            if header.is_continued:
                _skip_map(stream, header.name)
            name, size = header.name if given.path is None else given.path, _size(given, header)
            unreadable: Unreadable | None = "sparse" if header.kind == _SPARSE else given.unreadable
            given = _Given()
            if name.endswith("/"):  # how tars of before 1988 write a folder
                _skip(stream, size + _padding(size), name)
                continue
            yield _completed(stream, Member(position, name, size, b"", None, unreadable), wants=wants)
            position += 1
        else:
            held = 0 if header.kind in _WITHOUT_DATA else header.size
            _skip(stream, held + _padding(held), header.name)
            # A global record speaks of all members, a long link of the member after it; neither ends the
            # name.
            given = given if header.kind in (_PAX_GLOBAL, _GNU_LONG_LINK) else _Given()


def _completed(stream: Stream, member: Member, *, wants: Callable[[Member], bool]) -> Member:
    """The member with its body, if it is wanted; the stream then stands behind the member."""
    if member.unreadable is None:
        member = replace(member, head=_read(stream, min(member.size, _HEAD), member.name))
    rest, padding = member.size - len(member.head), _padding(member.size)
    if member.unreadable is not None or not wants(member):
        _skip(stream, rest + padding, member.name)
        return member
    body = member.head + _read(stream, rest, member.name)
    _skip(stream, padding, member.name)
    return replace(member, body=body)


def _header(stream: Stream) -> _Header | None:
    """The next header, None at the end mark."""
    block = stream.read(_BLOCK)
    if not block:
        raise TarFault("ends without tar's end mark")
    if len(block) < _BLOCK:
        raise TarFault("ends in the middle of a header")
    if not any(block):
        return None
    if sum(block[:148]) + sum(block[156:]) + 8 * ord(" ") != _number(block[148:156]):
        raise TarFault("not a tar header: its checksum is wrong")
    name = _text(block[:100])
    if block[257:263] == b"ustar\x00" and (folder := _text(block[345:500])):
        name = f"{folder}/{name}"
    kind = block[156:157]
    return _Header(name, _number(block[124:136]), kind, kind == _SPARSE and block[482] != 0)


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: too large for octal digits
        number = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    else:
        try:
            number = int(field.strip(b" \x00") or b"0", 8)
        except ValueError as error:
            raise TarFault(f"not a tar header: want octal digits, found {field!r}") from error
    if not 0 <= number < 1 << 63:
        raise TarFault(f"not a tar header: a number of {number}")
    return number


def _text(field: bytes) -> str:
    return repaired_text(field.partition(b"\x00")[0])


def _extension(stream: Stream, header: _Header) -> _Given:
    if header.size > _LONGEST_EXTENSION:
        raise TarFault(f"a header extension of {header.size} bytes, more than {_LONGEST_EXTENSION}")
    data = _read(stream, header.size, header.name)
    _skip(stream, _padding(header.size), header.name)
    return _Given(path=_text(data)) if header.kind == _GNU_LONG_NAME else _pax_records(data)


def _pax_records(data: bytes) -> _Given:
    records: dict[str, str] = {}
    unreadable: Unreadable | None = None
    while data.strip(b"\x00"):
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) + 1 < int(length) <= len(data):
            unreadable = "broken pax records"  # the header's own size holds, below 8 GiB
            break
        keyword, _, value = data[len(length) + 1 : int(length)].removesuffix(b"\n").partition(b"=")
        records[repaired_text(keyword)] = repaired_text(value)
        data = data[int(length) :]
    if any(name.startswith("GNU.sparse") for name in records):
        unreadable = "sparse"
    path = records.get("GNU.sparse.name", records.get("path"))
    return _Given(path, records.get("size"), unreadable)


def _skip_map(stream: Stream, name: str) -> None:
    """The blocks in which a sparse member's map goes on, each of which says whether another one follows."""
    while _read(stream, _BLOCK, name)[504]:
        pass


def _size(given: _Given, header: _Header) -> int:
    size = str(header.size) if given.size is None else given.size
    if not (size.isascii() and size.isdigit()) or len(size) > 18:
        raise TarFault(f"a member of {size[:20]!r} bytes")
    return int(size)


def _padding(size: int) -> int:
    return -size % _BLOCK


def _read(stream: Stream, size: int, name: str) -> bytes:
    body = stream.read(size)
    if len(body) < size:
        raise TarFault(f"ends in the middle of {name[:80]!r}")
    return body


def _skip(stream: Stream, size: int, name: str) -> None:
    while size:
        passed = len(stream.read(min(size, _SKIPPED_AT_ONCE)))
        if not passed:
            raise TarFault(f"ends in the middle of {name[:80]!r}")
        size -= passed
