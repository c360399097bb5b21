"""A tar of pictures → a description of every member in it, or the pictures that are wanted"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from recap_spark.workers.shards.claims import NOTHING_SAID, Claims, SideRows, claims_in_json, uid_in
from recap_spark.workers.shards.member_names import MemberName, member_name
from recap_spark.workers.shards.shard_files import (
    BUFFER,
    FAILED,
    PICTURE,
    UNREADABLE,
    UNRECOGNISED,
    Described,
    Held,
    ShardFault,
)
from recap_spark.workers.shards.shards import storage_of
from recap_spark.workers.shards.tars import Member, Stream, TarFault, members

_LARGEST_JSON = 1 << 20  # img2dataset's has one of CommonPool's texts, EXIF and a few numbers
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class _Picture:
    position: int
    name: MemberName
    sha256: str | None  # None where the body was not read
    md5: str | None


@dataclass
class _Contents:
    """A tar's members by what they are."""

    pictures: list[_Picture] = field(default_factory=list)
    jsons: dict[str, Claims] = field(default_factory=dict)  # by stem
    unreadable: list[Described] = field(default_factory=list)
    keys: dict[str, MemberName] = field(default_factory=dict)  # one name of each key, in order

    def add(self, member: Member) -> None:
        name = member_name(member.name)
        self.keys.setdefault(name.key, name)
        if member.unreadable is not None:
            found = Described(
                position=member.position, key=name.key, state=UNREADABLE, detail=member.unreadable
            )
            self.unreadable.append(found)
        elif name.is_picture(member.head):
            body = member.body
            sha256 = None if body is None else hashlib.sha256(body).hexdigest()
            md5 = None if body is None else hashlib.md5(body, usedforsecurity=False).hexdigest()
            self.pictures.append(_Picture(member.position, name, sha256, md5))
        elif name.suffix == "json" and not name.is_hidden:
            self.jsons.setdefault(name.stem, claims_in_json(member.body))

    def beside(self, name: MemberName) -> Claims:
        return self.jsons.get(name.stem) or self.jsons.get(name.key) or NOTHING_SAID


def describe_tar(source: str, path: str, *, side: SideRows, largest_bytes: int) -> Iterator[Described]:
    """A description of every picture, of every key without a picture, of every row of the side file that has
    none in the tar, and of every member that cannot be read: so every member is counted.

    Raises ShardFault, after what came before it, at the place where the file stops being readable.
    """
    contents, fault = _Contents(), None

    def is_read(member: Member) -> bool:
        name = member_name(member.name)
        if name.suffix == "json":
            return member.size <= _LARGEST_JSON
        said = side.about(name)
        is_known = uid_in(name.key) or (said is not None and (said.uid or said.sha256))
        return not is_known and member.size <= largest_bytes and name.is_picture(member.head)

    try:
        with _opened(source, path) as stream:
            for member in members(stream, wants=is_read):
                contents.add(member)
    except ShardFault as cause:
        fault = cause
    yield from _described(contents, side)
    yield from contents.unreadable
    if fault is not None:
        raise fault


def tar_pictures(
    source: str, path: str, *, wants: Callable[[int], bool], largest_bytes: int
) -> Iterator[Held]:
    """The members at the positions that are wanted; bodies of no more than `largest_bytes`."""

    def is_read(member: Member) -> bool:
        return wants(member.position) and member.size <= largest_bytes

    with _opened(source, path) as stream:
        for member in members(stream, wants=is_read):
            if member.unreadable is None and wants(member.position):
                key = member_name(member.name).key
                yield Held(position=member.position, key=key, size=member.size, body=member.body)


def _described(contents: _Contents, side: SideRows) -> Iterator[Described]:
    with_picture: set[str] = set()
    for picture in contents.pictures:
        with_picture.add(picture.name.key)
        own = contents.beside(picture.name)
        said = side.about(picture.name)
        # A side file may be another download's: what stands beside the picture itself has the last word.
        if said is not None and not own.contradicts(said):
            side.found(picture.name)
            own = own.completed(said)
        yield _of_picture(picture, own)
    for key, name in contents.keys.items():
        if key not in with_picture and side.about(name) is None:
            state = FAILED if contents.beside(name).failed else UNRECOGNISED
            yield Described(position=-1, key=key, state=state)
    for at, (key, said) in enumerate(side.without_picture()):
        claims = said if said.uid else replace(said, uid=uid_in(key))
        yield Described(position=-1 - at, key=key, state=FAILED if said.failed else PICTURE, claims=claims)


def _of_picture(picture: _Picture, said: Claims) -> Described:
    key = picture.name.key
    # The md5 of the download is that of these bytes: then their sha256 is the download's as well.
    as_downloaded = picture.sha256 if said.md5 is not None and said.md5 == picture.md5 else None
    claims = replace(said, uid=said.uid or uid_in(key), sha256=said.sha256 or as_downloaded)
    return Described(
        position=picture.position, key=key, state=PICTURE, claims=claims, own_sha256=picture.sha256
    )


@contextmanager
def _opened(source: str, path: str) -> Iterator[Stream]:
    """The tar's bytes, decompressed where needed: decided by the content, whatever the suffix says."""
    storage, root = storage_of(source)
    with storage.open_input_stream(f"{root}/{path}", compression=None) as raw:
        start = raw.read(4)
    codec = next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)
    try:
        with storage.open_input_stream(f"{root}/{path}", compression=codec, buffer_size=BUFFER) as stream:
            yield stream
    except TarFault as fault:
        raise ShardFault(str(fault)) from fault
    except OSError as error:
        # The disk's errors have numbers; those without are the decompressor's.
        if error.errno:
            raise
        raise ShardFault(f"{type(error).__name__}: {error}"[:300]) from error
