"""A folder of pictures → a small web on loopback, with a route for each way that the real one fails

python -m recap_spark.miniature.server FOLDER --port 8000

/images/NAME                             FOLDER/images/NAME
/missing /gone /forbidden /error         404, 410, 403, 503
/throttled /flaky                        429 with Retry-After, or 503, the first time; then the picture
/webpage /garbage                        a page instead of a picture; not HTTP at all
/mislabelled /swapped                    the picture as text/plain; another picture of the folder
/truncated /cut                          half of it, and the length says so; half of it, and the length lies
/closed /badgzip                         no reply at all; a Content-Encoding that is not true
/oversized /bomb /drip /slowhead         endless, a gzip bomb, a byte or a header every half second
/redirect/N/NAME /loop /inward           N redirects; an endless ring; one to a metadata service
/away/NAME?to=URL                        one to wherever you like
/robots /reserved                        X-Robots-Tag: noai; TDM-Reservation: 1
/_log                                    how often each path was asked for, as JSON
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from recap_spark.errors import PlatformError
from recap_spark.miniature.web import application

_PACKAGE_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A web that is up."""

    base_url: str

    def asked(self) -> dict[str, int]:
        """How often each path has been asked for."""
        with urllib.request.urlopen(f"{self.base_url}/_log", timeout=10) as reply:
            counts: dict[str, int] = json.load(reply)
        return counts


@contextmanager
def serve(folder: Path, *, port: int | None = None, address: str = "127.0.0.1") -> Iterator[Server]:
    """Serve a folder from a process of its own, until the block or this process ends, by whatever signal."""
    command = [sys.executable, "-m", "recap_spark.miniature.server", str(folder.resolve())]
    command += ["--address", address, "--port", str(port or 0), "--until-stdin-closes"]
    # A pipe closes with its writer, even one that was killed; a server left behind would hold the fixed port.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_PACKAGE_ROOT,
        start_new_session=True,  # Ctrl-C is for the program that was started, which then closes the pipe
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            base_url = process.stdout.readline().strip()
            if not base_url:
                raise PlatformError(
                    f"want port {port or 'any'} of {address}, found it taken: its own message is above"
                )
            yield Server(base_url)
        finally:
            process.stdin.close()


def main() -> None:
    """Serve until interrupted, or until stdin closes."""
    parser = argparse.ArgumentParser(prog="python -m recap_spark.miniature.server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True, help="0: any that is free")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--until-stdin-closes", action="store_true")
    arguments = parser.parse_args()
    end = _stdin_closed if arguments.until_stdin_closes else asyncio.Event().wait
    try:
        asyncio.run(_serve_until(end, arguments))
    except KeyboardInterrupt:
        return


async def _serve_until(end: Callable[[], Awaitable[object]], arguments: argparse.Namespace) -> None:
    # Nobody waits for an endless body to end.
    runner = web.AppRunner(application(arguments.folder), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.address, arguments.port).start()
        port = runner.addresses[0][1]
        sys.stdout.write(f"http://{arguments.address}:{port}\n")
        sys.stdout.flush()
        await end()
    finally:
        await runner.cleanup()


async def _stdin_closed() -> None:
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    main()
