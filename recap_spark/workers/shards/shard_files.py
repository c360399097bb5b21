"""Files that img2dataset wrote → the pictures they hold, and what each says of itself

A shard is `NNNNN.tar` of `KEY.jpg`, `KEY.json` and `KEY.txt`, with the side file `NNNNN.parquet` of its
metadata; or a Parquet file with the pictures in a column (img2dataset 1.47, writer.py). DataComp's resharder
writes tars whose keys are uids (datacomp, resharder.py), and so does this project's export. Others have made
tars of folders by hand: then a key's members need not stand together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from recap_spark.workers.shards.claims import NOTHING_SAID, Claims

State = Literal["picture", "failed", "unrecognised", "unreadable"]
PICTURE: State = "picture"
FAILED: State = "failed"
UNRECOGNISED: State = "unrecognised"
UNREADABLE: State = "unreadable"
"""It should be in the shard; img2dataset could not get it; members of one key, none of them a picture that
can be read; a member of any kind whose bytes cannot be had.
"""

BUFFER = 1 << 20

_TAR = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|zst))$", re.IGNORECASE)


class ShardFault(Exception):  # noqa: N818  the field's word for what is wrong with a file
    """The file, or the rest of it, cannot be read. What was read before stands."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a shard says of one picture, of a key whose members are no picture, or of an unreadable member."""

    position: int  # the member of the tar, or the row, from 0; below 0 where it is described and not there
    key: str
    state: State
    claims: Claims = NOTHING_SAID
    own_sha256: str | None = None  # of the bytes as they lie in the shard, where they had to be read
    detail: str | None = None  # why a member cannot be read


@dataclass(frozen=True, kw_only=True)
class Held:
    """One picture of a shard."""

    position: int
    key: str
    size: int
    body: bytes | None  # None where it was not asked for, or is too large


def is_tar(path: str) -> bool:
    return _TAR.search(path) is not None


def without_suffix(path: str) -> str:
    """What the names of a tar and of its side file have in common: `part/00000`."""
    return re.sub(r"\.parquet$", "", _TAR.sub("", path))
