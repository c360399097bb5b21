"""The metadata of a picture, from JSON or a row → what it says of the picture"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recap_spark.workers.metadata.sha256 import is_malformed, known_sha256
from recap_spark.workers.rows import repaired_text
from recap_spark.workers.shards.member_names import MemberName

SAID = ("uid", "sha256", "md5", "url", "status")
"""The names that are looked for, img2dataset's."""

_UID = re.compile(r"[0-9a-f]{32}")
_UID_KEY = re.compile(r"([0-9a-f]{32})(?:-\d+)?")  # the resharder numbers the repeats of a sample


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What metadata says of a picture; any of it may be wrong."""

    uid: str | None = None
    sha256: str | None = None  # of the bytes as they were downloaded, before img2dataset resized them
    md5: str | None = None  # likewise
    url: str | None = None
    sha256_malformed: bool = False  # it says a hash that is none
    failed: bool = False  # img2dataset has no picture of this row

    def contradicts(self, other: Claims) -> bool:
        """Whether the two describe different pictures."""
        pairs = (self.uid, other.uid), (self.sha256, other.sha256)
        return any(one is not None and two is not None and one != two for one, two in pairs)

    def completed(self, other: Claims) -> Claims:
        """The same, with the other's values where this one has none."""
        said = {name: getattr(self, name) or getattr(other, name) for name in ("uid", "sha256", "md5", "url")}
        malformed = self.sha256_malformed or other.sha256_malformed
        return Claims(failed=self.failed, sha256_malformed=malformed, **said)


def claims_of(said: Mapping[str, Any]) -> Claims:
    """The claims in a record; values of other types than expected are ignored."""
    texts = {name: _text(said.get(name)) for name in SAID}
    uid = texts["uid"]
    return Claims(
        uid=uid if uid is not None and _UID.fullmatch(uid) else None,
        sha256=known_sha256(texts["sha256"]),
        sha256_malformed=is_malformed(texts["sha256"]),
        md5=(texts["md5"] or "").strip().lower() or None,
        url=(texts["url"] or "").strip() or None,
        failed=texts["status"] not in (None, "success"),
    )


def claims_in_json(body: bytes | None) -> Claims:
    """The claims in a JSON object of any encoding; none where it is no object, as for a picture without
    metadata.
    """
    try:
        try:
            said = json.loads(body or b"{}")
        except UnicodeDecodeError:
            said = json.loads(repaired_text(body or b"{}"))
    except (ValueError, RecursionError):  # ValueError: no JSON, or a number of thousands of digits
        return NOTHING_SAID
    return claims_of(said) if isinstance(said, dict) else NOTHING_SAID


def uid_in(key: str) -> str | None:
    """The uid that a key consists of, as DataComp's resharder and export name their members; else None."""
    name = _UID_KEY.fullmatch(key.rpartition("/")[2])
    return name.group(1) if name else None


NOTHING_SAID = Claims()


@dataclass
class SideRows:
    """The rows of a side file, and which of them belong to a picture that was found."""

    rows: list[tuple[str, Claims]]  # by key
    _at: dict[str, int] = field(default_factory=dict)
    _found: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for spelled in (str, _last_part):
            for at, (key, _) in enumerate(self.rows):
                self._at.setdefault(spelled(key), at)

    def about(self, name: MemberName) -> Claims | None:
        at = self._place(name)
        return None if at is None else self.rows[at][1]

    def found(self, name: MemberName) -> None:
        if (at := self._place(name)) is not None:
            self._found.add(at)

    def without_picture(self) -> Iterable[tuple[str, Claims]]:
        return (row for at, row in enumerate(self.rows) if at not in self._found)

    def _place(self, name: MemberName) -> int | None:
        return next((self._at[spelled] for spelled in name.spellings if spelled in self._at), None)


def _last_part(key: str) -> str:
    return key.rpartition("/")[2]


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return repaired_text(value)
    if not isinstance(value, str):
        return None
    return value if value.isascii() or _is_storable(value) else None


def _is_storable(text: str) -> bool:
    """Not where JSON has spelled half a surrogate pair, which no Arrow string can hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
