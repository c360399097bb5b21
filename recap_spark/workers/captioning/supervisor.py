"""One server for one executor: started by the first worker that asks for it, ended with the executor

`python supervisor.py FOLDER OWNER_PID OWNER_START PORT STOP_S COMMAND...`

A server must outlive the Python workers that use it, since Spark ends and replaces them at any time, and must
not outlive the executor, whose GPU it holds. So neither is its parent: this small process is, in a session of
its own, so that the end of a worker does not end it. It watches the executor's JVM and ends the server with
it. If this process is killed, the kernel ends the server (PR_SET_PDEATHSIG, which acts on the death of the
parent, and this parent stays).

It holds a lock on a file in FOLDER for as long as it runs, so a second one for the same folder exits at once.
It is run by its path, imports the standard library only, and starts in some tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_POLL_S = 0.2
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Hold the folder's lock, run the command, and end it with the owner or on SIGTERM."""
    folder, owner = Path(sys.argv[1]), process(sys.argv[2])
    if owner is None or owner["start"] != sys.argv[3]:
        return
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        signal.signal(signal.SIGTERM, _leave)
        state = folder / "state.json"
        _write(state, {**_self(), "port": sys.argv[4]})
        try:
            _watch(sys.argv[6:], owner=owner, stop_s=float(sys.argv[5]))
        finally:
            state.unlink(missing_ok=True)
        if not _is_same(owner):
            shutil.rmtree(folder)  # nobody is left who would look there


def process(pid: str | int) -> dict[str, str] | None:
    """A live process by its id and start (in ticks since boot: ids are used again); None for a dead one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold blanks and parentheses of its own (proc_pid_stat(5)).
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    if fields[0] in "ZX":
        return None
    return {"pid": str(pid), "name": name, "parent": fields[1], "start": fields[19]}


def _is_same(known: dict[str, str]) -> bool:
    found = process(known["pid"])
    return found is not None and found["start"] == known["start"]


def _watch(command: list[str], *, owner: dict[str, str], stop_s: float) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    server = subprocess.Popen(command, process_group=0, preexec_fn=die_with_parent)
    try:
        while _is_same(owner):
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_POLL_S)
                return
    finally:
        _end(server, stop_s=stop_s)


def _end(server: subprocess.Popen[bytes], *, stop_s: float) -> None:
    for number, patience_s in ((signal.SIGTERM, stop_s), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)  # what the server started goes with it
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(patience_s)


def _self() -> dict[str, str]:
    found = process(os.getpid())
    if found is None:
        raise ProcessLookupError("want /proc/self/stat, found none")
    return {key: found[key] for key in ("pid", "start")}


def _write(path: Path, values: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values))
    part.replace(path)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
