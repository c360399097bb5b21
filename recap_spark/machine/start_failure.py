"""What a Spark that did not start wrote → which artefact it could not have, and where it looked for it"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recap_spark.errors import PlatformError, RecapError

# Ivy's report, of an artefact that no place has, or whose file could not be fetched.
_ABSENT = re.compile(r"::\s+([\w.-]+)#([\w.-]+);([^\s!:]+)(?:: not found|!\S+)")
_LOOKED_IN = re.compile(r"==== ([\w-]+): tried\s+(\S+)")


@contextmanager
def jvm_log(path: str | None) -> Iterator[None]:
    """Send what the JVM writes on standard error to a file, where one is named: it inherits the descriptor
    that is there when it starts.

    Raises PlatformError where Spark does not start meanwhile.
    """
    if path is None:
        with _told("its own words are above", read=str):
            yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    with open(path, "ab") as log:
        begin = log.tell()
        os.dup2(log.fileno(), 2)
        try:
            with _told(f"its own words are in {path}", read=lambda: _after(path, begin)):
                yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def unresolved(words: str) -> str | None:
    """The artefacts that Ivy could not have and the places where it looked; None where that was not it."""
    absent = dict.fromkeys(":".join(found) for found in _ABSENT.findall(words))
    if not absent:
        return None
    places = dict.fromkeys(f"{name} ({_root(url, absent)})" for name, url in _LOOKED_IN.findall(words))
    return f"want {', '.join(absent)}, found in none of {', '.join(places)}"


def _root(url: str, absent: dict[str, None]) -> str:
    """The place's own address: what comes before the artefact's group."""
    groups = {name.partition(":")[0] for name in absent}
    for group in sorted(groups, key=len, reverse=True):
        for folder in (group.replace(".", "/"), group):
            if f"/{folder}/" in url:
                return url.partition(f"/{folder}/")[0]
    return url


@contextmanager
def _told(where: str, *, read: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except RecapError:
        raise
    except Exception as error:
        why = unresolved(read()) or str(error).split("\n", 1)[0]
        raise PlatformError(f"Spark did not start: {why}; {where}") from error


def _after(path: str, begin: int) -> str:
    with open(path, "rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace")
