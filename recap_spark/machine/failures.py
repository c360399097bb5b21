"""What stopped a job, out of whatever Spark wraps around it → one line that says what was wanted and found

An error that a worker raises on purpose comes back as some 260 lines of Java; a full disk or a store that is
away comes as the same lines around one that matters.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from recap_spark import errors
from recap_spark.errors import PlatformError, RecapError
from recap_spark.extras import missing_in
from recap_spark.lake.spark_errors import SPARK_ERRORS, text_of

# The last one of a Python trace is the one that was raised; a Java trace, or a blank line, ends it.
_ON_PURPOSE = re.compile(r"^[ \t]*recap_spark\.errors\.(\w+): (.+?)(?=\n\s*(?:at |\n)|\n\Z|\Z)", re.M | re.S)
_LONGEST = 400
_RAISED: tuple[type[Exception], ...] = (*SPARK_ERRORS, OSError)

log = logging.getLogger(__name__)

# What Java, Hadoop's file systems, Arrow and the stores' clients say, and what it means to whoever reads it.
_CAUSES = {
    "a disk is full: want free space where the lake is and where Spark keeps its own files": (
        r"No space left on device|Disk quota exceeded|QuotaExceededException"
    ),
    "no permission: want to read and write what conf names": (
        r"Permission denied|AccessControlException|AccessDenied|Access Denied|Read-only file system"
        r"|status code: 403|StatusCode=403|Status Code: 403|403 Forbidden"
    ),
    "no connector: want one for the address's scheme among Spark's JARs": (
        r"No FileSystem for scheme|UnsupportedFileSystemException"
        r"|Class org\.apache\.hadoop\.fs\.\S+ not found"
    ),
    "a store or server is away: want to reach what conf names": (
        r"UnknownHostException|ConnectException|NoRouteToHostException|SocketTimeoutException"
        r"|Connection refused|Could not connect|Couldn't resolve host|curlCode: \d+|NoSuchBucket"
        r"|bucket does not exist|Unable to load (?:AWS )?credentials|Name or service not known"
    ),
}
# An error of these says something of values, and may repeat strangers' words.
_ABOUT_DATA = re.compile(r"\b(?:Value|Type|Key|Index|Assertion|Attribute|UnicodeDecode|UnicodeEncode)Error: ")
_BY_NUMBER = {
    errno.ENOSPC: "a disk is full",
    errno.EDQUOT: "a disk is full",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "no permission",
}


@contextmanager
def said_in_one_line() -> Iterator[None]:
    """What is known of an error that Spark or the machine raises meanwhile is raised as a RecapError, from
    it; any other error goes on as it is.
    """
    try:
        yield
    except _RAISED as error:
        said = in_one_line(error)
        if said is None:
            raise
        log.debug("the whole of what stopped the job", exc_info=error)
        raise said from error


def in_one_line(error: BaseException) -> RecapError | None:
    """The error that a worker raised on purpose, or the machine's fault; None for anything else."""
    if isinstance(error, OSError):
        return _of_system(error)
    return cause_in(text_of(error))


def cause_in(text: str) -> RecapError | None:
    """The same, of what Spark says."""
    if raised := _ON_PURPOSE.findall(text):
        name, message = raised[-1]
        kind = getattr(errors, name, RecapError)
        return kind(_shortened(message)) if isinstance(kind, type) and issubclass(kind, RecapError) else None
    if absent := missing_in(text):
        return absent
    for meaning, pattern in _CAUSES.items():
        for found in re.finditer(pattern, text):
            line, before = _line_around(found)
            if not _ABOUT_DATA.search(before):
                return PlatformError(f"{meaning}; found: {_shortened(line)}")
    return None


def _of_system(error: OSError) -> RecapError | None:
    meaning = _BY_NUMBER.get(error.errno or 0)
    if meaning is None:
        return None
    where = f" at {error.filename}" if error.filename else ""
    return PlatformError(f"{meaning}{where}: {error.strerror}")


def _line_around(found: re.Match[str]) -> tuple[str, str]:
    """The line that it is in, from half of what is shown before it, and what is before it: a plan in one line
    has megabytes.
    """
    text = found.string
    begin = max(text.rfind("\n", 0, found.start()) + 1, found.start() - _LONGEST // 2)
    return text[begin : found.end() + _LONGEST].partition("\n")[0], text[begin : found.start()]


def _shortened(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
