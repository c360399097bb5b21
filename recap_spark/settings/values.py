"""What a number, an address or a place may be, for every settings model

Constraints are of `annotated_types`, which dataclasses of workers carry without pydantic. A float below
infinity is no NaN either.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, StringConstraints

Count = Annotated[int, Ge(1), Le(2**31 - 1)]
CountOrNone = Annotated[int, Ge(0), Le(2**31 - 1)]  # 0: none of it
Bytes = Annotated[int, Ge(1), Le(2**63 - 1)]
BytesOrNone = Annotated[int, Ge(0), Le(2**63 - 1)]  # 0: none
Pixels = Annotated[int, Ge(1), Le(2**31 - 1)]
PixelsOrAny = Annotated[int, Ge(0), Le(2**31 - 1)]  # 0: any
Seed = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]  # Spark's bigint
Share = Annotated[float, Ge(0), Le(1)]
Fraction = Annotated[float, Gt(0), Lt(1)]
Cosine = Annotated[float, Ge(-1), Le(1)]
Seconds = Annotated[float, Gt(0), Lt(math.inf)]
SecondsOrNone = Annotated[float, Ge(0), Lt(math.inf)]  # 0: no waiting
Hours = Annotated[float, Ge(0), Lt(math.inf)]
Positive = Annotated[float, Gt(0), Lt(math.inf)]
NotNegative = Annotated[float, Ge(0), Lt(math.inf)]
Ratio = Annotated[float, Ge(1), Lt(math.inf)]
Port = Annotated[int, Ge(1), Le(65535)]
Units = Annotated[int, Ge(1), Le(65536)]
JpegQuality = Annotated[int, Ge(1), Le(100)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]

_MOST_EPOCHS = 128  # a writer has a file of captions open for each

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_SERVER = re.compile(r"[\w.-]+:\d+(/.*)?")
# What Spark's file systems, those of platforms among them, are known by.
_STORES = (
    "s3",
    "s3a",
    "s3n",
    "gs",
    "abfs",
    "abfss",
    "wasb",
    "wasbs",
    "hdfs",
    "viewfs",
    "dbfs",
    "oss",
    "file",
)
_TRACKING = ("http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


def is_url(place: str) -> bool:
    """Whether a place is a URL of a store, and no path of this machine."""
    return ":/" in place


def absolute(place: str) -> str:
    """A path as it is from any folder; a URL as it is."""
    return place if is_url(place) else str(Path(place).resolve())


def _http(url: str) -> str:
    if any(character.isspace() or ord(character) < 32 for character in url):
        raise ValueError("want an address without blanks")  # it is sent as a header
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port is None or parts.port else None
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError(
            "want an address that begins with http:// or https:// and names a host, and a port if any"
        )
    return url


def _place(path: str) -> str:
    """The same with the home folder in place of `~/`: workers may have another home."""
    if not path or "\0" in path:
        raise ValueError("want a path or a URL that is not empty")
    scheme = _SCHEME.match(path)
    if scheme and scheme[1].lower() not in _STORES:
        raise ValueError(f"want a path, or a URL of {', '.join(_STORES)}, found one of {scheme[1]}")
    if scheme and scheme[1].lower() == "file":
        return _path_of(path)
    if path == "~" or path.startswith("~/"):
        return os.path.expanduser(path)
    if path.startswith("~"):
        raise ValueError("want ~/ for your own home folder, or the whole path of another's")
    return path


def _path_of(url: str) -> str:
    """`file:///data/lake` as the path that it is: every library here has its own way with the URL."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError("want file:/// and a path, or the path alone")
    return unquote(parts.path)


def _local_place(path: str) -> str:
    if _SCHEME.match(path):
        raise ValueError("want a path on this machine")
    return _place(path)


def _tracking(uri: str) -> str:
    if _SERVER.fullmatch(uri):
        raise ValueError(f"want a scheme before a server's name, such as http://{uri}")
    scheme = _SCHEME.match(uri)
    if scheme and scheme[1] in ("http", "https"):
        return _http(uri)
    # mysql+pymysql: a database with its driver.
    if scheme and scheme[1].partition("+")[0] not in _TRACKING:
        raise ValueError(f"want a path, or a URI of {', '.join(_TRACKING)}")
    return uri if scheme else _place(uri)


def _listed(epochs: object) -> tuple[object, ...]:
    # A tuple here: after a validator of one's own, pydantic lets JSON's lists no longer stand for one.
    if isinstance(epochs, list | tuple):
        return tuple(epochs)
    if not isinstance(epochs, int) or isinstance(epochs, bool):
        raise ValueError("want an epoch or a list of them")
    return (epochs,)


def _each_once(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if not epochs:
        raise ValueError("want at least one epoch")
    if len(epochs) > _MOST_EPOCHS:
        raise ValueError(f"want at most {_MOST_EPOCHS} epochs in one export, found {len(epochs)}")
    if len(set(epochs)) < len(epochs):
        raise ValueError("want every epoch once")
    return epochs


Epochs = Annotated[tuple[CountOrNone, ...], BeforeValidator(_listed), AfterValidator(_each_once)]
HttpUrl = Annotated[str, AfterValidator(_http)]
Place = Annotated[str, AfterValidator(_place)]
LocalPlace = Annotated[str, AfterValidator(_local_place)]
TrackingUri = Annotated[str, AfterValidator(_tracking)]
