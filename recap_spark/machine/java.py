"""The Java that Spark 4 runs on: 17 or newer, from JAVA_HOME or the PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from recap_spark.errors import PlatformError

OLDEST = 17
_ADVICE = (
    "install a Java 17 or newer (Debian, Ubuntu: `apt-get install openjdk-17-jre-headless`) or set JAVA_HOME"
)


@dataclass(frozen=True)
class Java:
    home: Path
    version: int


def find_java() -> Java:
    """JAVA_HOME's Java where it is new enough, else the PATH's.

    Raises PlatformError naming what was found.
    """
    seen = []
    for command in _candidates():
        version = _version(command)
        if version is not None and version >= OLDEST:
            return Java(command.resolve().parent.parent, version)
        seen.append(f"{command} ({'no version' if version is None else version})")
    raise PlatformError(f"want Java {OLDEST} or newer, found {', '.join(seen) or 'none'}: {_ADVICE}")


def _candidates() -> list[Path]:
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    named = [Path(home, "bin", "java")] if home else []
    return [path for path in [*named, *([Path(on_path)] if on_path else [])] if path.is_file()]


def _version(command: Path) -> int | None:
    said = subprocess.run(
        [command, "-version"], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None
