"""What a JVM writes while it starts, and what of it says why it did not"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recap_spark.errors import PlatformError

_NOT_FOUND = re.compile(r"(?:module not found: |\[NOT FOUND +\] |download failed: )([^\s!]+)")
_FOLDERS = re.compile(r"^(?:Ivy Default Cache set to|The jars for the packages stored in): (.+)$", re.M)
_PLACES = re.compile(r"==== (\S+): tried")
_BY_PATH = "put the JARs where this machine is and name them as session.jars, or let it reach Maven once"


@contextmanager
def jvm_log(path: str | None) -> Iterator[None]:
    """Send what the JVM writes on standard error to a file: it inherits the descriptor that is there when it
    starts.

    Raises PlatformError where it does not start, in one line.
    """
    if path is None:
        try:
            yield
        except Exception as error:
            raise PlatformError(f"Spark did not start ({error}); its own words are above") from error
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    with open(path, "ab") as log:
        began = log.tell()
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception as error:
            said = Path(path).read_bytes()[began:].decode(errors="replace")
            why = without_artefact(said) or f"Spark did not start ({error})"
            raise PlatformError(f"{why}; its own words are in {path}") from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def without_artefact(said: str) -> str | None:
    """Which of Spark's packages Ivy could not have, and where it looked; None where it has them all."""
    missing = list(dict.fromkeys(_NOT_FOUND.findall(said)))
    if not missing:
        return None
    places = list(dict.fromkeys([*_FOLDERS.findall(said), *_PLACES.findall(said)]))
    return f"want {', '.join(missing)} for Spark, found none in {', '.join(places)}: {_BY_PATH}"
