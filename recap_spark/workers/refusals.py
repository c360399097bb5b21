"""A model that cannot be loaded is loaded once on an executor, and not by each of a task's four attempts

Spark tries a failed task again whatever it failed by, in another process. What is wrong with weights or
settings is wrong for that one too, and says so minutes later.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recap_spark.errors import SettingsError, WeightsError

_BELIEVED_S = 600.0
_LASTING = {kind.__name__: kind for kind in (SettingsError, WeightsError)}


@contextmanager
def refused_once(what: str) -> Iterator[None]:
    """Load `what`, a text that no other model has, unless a process of this executor found that it cannot
    be loaded in the last minutes: then its error is raised again.

    It is noted in the folder that Spark gives an executor for its lifetime; without one nothing is noted.
    Attempts follow each other at once; who mends the model in a notebook and begins again is not refused.
    """
    folder = os.environ.get("SPARK_LOCAL_DIRS", "").partition(",")[0]
    note = Path(folder, f"refused-{hashlib.sha256(what.encode()).hexdigest()}.json") if folder else None
    if note is not None and note.exists() and time.time() - note.stat().st_mtime < _BELIEVED_S:
        name, message = json.loads(note.read_text())
        raise _LASTING[name](message)
    try:
        yield
    except (SettingsError, WeightsError) as error:
        if note is not None:
            partial = note.with_suffix(f".{os.getpid()}")
            with suppress(OSError):  # a full disk: then the next attempt finds out for itself
                partial.write_text(json.dumps([type(error).__name__, str(error)]))
                partial.replace(note)
        raise
