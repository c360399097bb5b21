"""A member's name → which sample of the shard it belongs to, and whether it is its picture"""

from __future__ import annotations

from dataclasses import dataclass

from recap_spark.workers.pictures.pictures import has_signature

PICTURE_NAMES = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "mpo"),
)
"""Suffixes of picture members, and names of picture columns: of every format that fetch accepts."""

# What stands beside pictures. Texts may begin as a picture does: "BM", a BMP's signature, begins "BMW".
_NO_PICTURES = frozenset({"json", "txt", "text", "caption", "cls", "md", "html", "csv", "tsv", "xml", "yaml"})


@dataclass(frozen=True)
class MemberName:
    """`part/000.thumb.JPG` is of stem `part/000.thumb`, key `part/000` and suffix `jpg`."""

    stem: str
    key: str  # as WebDataset has it: up to the first dot
    suffix: str
    is_hidden: bool  # of what macOS's tar adds: `._000.jpg`, `.DS_Store`, `__MACOSX/`

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names that a side file may use for it, the most exact first: tars of a folder put it before
        each name.
        """
        return self.stem, self.stem.rpartition("/")[2], self.key, self.key.rpartition("/")[2]

    def is_picture(self, head: bytes) -> bool:
        """By its suffix, whatever the bytes are; by its first bytes where the suffix says nothing."""
        if self.is_hidden or self.suffix in _NO_PICTURES:
            return False
        return self.suffix in PICTURE_NAMES or has_signature(head)


def member_name(name: str) -> MemberName:
    folder, slash, last = name.rpartition("/")
    if last.startswith(".") or "__MACOSX" in folder.split("/"):
        return MemberName(name, name, "", is_hidden=True)
    stem, dot, suffix = last.rpartition(".")
    stem = stem if dot else last
    key = stem.partition(".")[0]
    return MemberName(f"{folder}{slash}{stem}", f"{folder}{slash}{key}", suffix.lower() if dot else "", False)
