"""Where this executor's own server is: found running, or started and waited for"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from recap_spark.errors import PlatformError
from recap_spark.settings.endpoint import ServerSettings
from recap_spark.workers.captioning import supervisor

_POLL_S = 0.1
_ASK_S = 5.0
_STARTS = 3  # another worker's end, or a port that was taken in between, may cost one
_LOG_SHOWN = 2000  # bytes of the server's last words


def served_url(spec: ServerSettings, *, words: Mapping[str, str], device: str) -> str:
    """The base url of the healthy server of this executor and GPU; the first caller starts it.

    `words` fill the placeholders in its command. A server that has died is started again. Raises
    PlatformError, with the last lines of the server's output, where none is healthy within `start_timeout_s`.
    """
    owner = executor()
    command = [_filled(word, {**words, "python": sys.executable}) for word in spec.command]
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:16]
    folder = _folder(f"{owner['pid']}-{owner['start']}-{device}-{digest}")
    deadline = time.monotonic() + spec.start_timeout_s
    started: list[subprocess.Popen[bytes]] = []
    while time.monotonic() < deadline:
        running = _running(folder)
        if running is None and all(each.poll() is not None for each in started):
            if len(started) == _STARTS:
                break
            started.append(_start(spec, command, folder=folder, owner=owner, device=device))
        elif running is not None and _is_healthy(running["port"]):
            return f"http://127.0.0.1:{running['port']}/v1"
        time.sleep(_POLL_S)
    running = _running(folder)
    if running is not None:  # alive and of no use: the next who asks begins anew
        os.kill(int(running["pid"]), signal.SIGTERM)
    log = folder / "log"
    last = log.read_bytes()[-_LOG_SHOWN:].decode(errors="replace") if log.exists() else "nothing"
    found = f"{len(started)} started here and none healthy; the last one said: {last}"
    raise PlatformError(f"{' '.join(command)}: want a server within {spec.start_timeout_s} s, found {found}")


def executor() -> dict[str, str]:
    """The process whose end must end the server: the JVM above this worker, or this process where there is
    none.
    """
    own = at = supervisor.process(os.getpid())
    while at is not None and at["name"] != "java":
        at = supervisor.process(at["parent"])
    found = at or own
    if found is None:
        raise PlatformError("want /proc, to know when the executor is gone, found none")
    return found


def _running(folder: Path) -> dict[str, str] | None:
    try:
        state: dict[str, str] = json.loads((folder / "state.json").read_text())
    except FileNotFoundError:
        return None
    found = supervisor.process(state["pid"])
    return state if found is not None and found["start"] == state["start"] else None


def _start(
    spec: ServerSettings, command: list[str], *, folder: Path, owner: dict[str, str], device: str
) -> subprocess.Popen[bytes]:
    port = str(_free_port())
    filled = [_filled(word, {"port": port}) for word in command]
    arguments = [str(folder), owner["pid"], owner["start"], port, str(spec.stop_timeout_s), *filled]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, supervisor.__file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=dict(os.environ) | _visible(device),
        )


def _filled(word: str, words: Mapping[str, str]) -> str:
    # Not str.format: a command may carry JSON.
    for name, value in words.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _visible(device: str) -> dict[str, str]:
    """The environment in which the server sees only the task's GPU, as its first."""
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    number = int(device.removeprefix("cuda:"))
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return {"CUDA_VISIBLE_DEVICES": seen[number] if seen != [""] else str(number)}


def _is_healthy(port: str) -> bool:
    # Straight to loopback: a proxy of the environment knows nothing of it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for page in ("health", "v1/models"):
        try:
            with opener.open(f"http://127.0.0.1:{port}/{page}", timeout=_ASK_S):
                return True
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return False
        except OSError:
            return False
    return False


def _folder(name: str) -> Path:
    parent = Path(tempfile.gettempdir()) / f"recap_spark-{getpass.getuser()}"
    folder = parent / name
    for each in (parent, folder):
        each.mkdir(mode=0o700, exist_ok=True)
    if parent.stat().st_uid != os.getuid() or parent.stat().st_mode & 0o077:
        raise PlatformError(
            f"{parent}: want a folder that only this user can enter, found one that others can"
        )
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
