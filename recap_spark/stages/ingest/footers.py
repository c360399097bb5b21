"""What a Parquet file says of itself"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pyspark.sql import types as T

_SPECIAL_TO_HADOOP = str.maketrans({character: f"\\{character}" for character in "[]{}*?\\"})


@dataclass(frozen=True)
class Footer:
    """A file's columns and rows."""

    names: tuple[str, ...]
    rows: int
    types: Callable[[Iterable[str]], T.StructType]
    """Spark's types of some columns. Raises ValueError where it has none for one of them."""


def literal(file: str) -> str:
    """The path with its glob characters escaped, so that Spark takes it literally."""
    return file.translate(_SPECIAL_TO_HADOOP)


def is_hidden(below: str) -> bool:
    """What Spark leaves out: `_SUCCESS`, `.part-0.crc`, the files of unfinished writes."""
    return any(part.startswith((".", "_")) for part in below.split("/") if part)
