"""The processes of this machine as /proc tells of them: who started whom, and what they run"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_DECODER = b"recap_spark.workers.pictures.decoder"


def parents() -> dict[int, int]:
    """Every process → the one that started it."""
    return {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}


def ancestors(process: int, above: dict[int, int]) -> Iterator[int]:
    while process := above.get(process, 0):
        yield process


def command(process: int) -> bytes:
    """What it runs; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def decoders() -> dict[int, int]:
    """The processes that decode pictures → those that they decode for."""
    return {process: parent for process, parent in parents().items() if _DECODER in command(process)}


def resident_bytes(process: int) -> int:
    """0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
