"""A web on loopback that is not the bound: prebuilt replies, a few processes, a host for each address

In this folder's parent: python -m fetching.web --hosts 100 --processes 2

/picture/N              one of 64 JPEGs of 512 px
/slow/N /silent/N       the picture after two seconds; no reply at all
/drip/N                 a byte every half second
/endless/N /bomb/N      zeros behind a JPEG's first bytes for as long as anyone reads; the same in gzip
/pixels/N               a small PNG of 60 million pixels
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import multiprocessing.synchronize
import socket
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image

SIDE = 512
PICTURES = 64
SLOW_S = 2.0
_TICK_S = 0.5
_BLOCK = 1 << 18


def hosts(count: int) -> list[str]:
    """Loopback addresses: to a client each is a host of its own, and none needs a look-up."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


@contextmanager
def serving(addresses: Sequence[str], bodies: Sequence[bytes], *, processes: int) -> Iterator[int]:
    """Serve these JPEGs on all of these addresses, from processes of their own. Yields the port."""
    port = _free_port()
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    servers = [
        context.Process(target=_serve, args=(list(addresses), list(bodies), port, ready), daemon=True)
        for _ in range(processes)
    ]
    for server in servers:
        server.start()
    try:
        for _ in servers:
            if not ready.acquire(timeout=120):
                raise SystemExit("want the benchmark's servers up within two minutes, found them not")
        yield port
    finally:
        for server in servers:
            server.terminate()
            server.join()


def pictures() -> list[bytes]:
    """JPEGs with detail at every scale, as photographs have, and about as large as theirs at quality 90."""
    draw = np.random.default_rng(7)
    return [_picture(draw) for _ in range(PICTURES)]


def _picture(draw: np.random.Generator) -> bytes:
    canvas = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    for cells, strength in ((4, 70.0), (16, 35.0), (64, 18.0), (256, 9.0)):
        patches = draw.normal(0.0, 1.0, (cells, cells, 3)).astype(np.float32)
        layers = [Image.fromarray(patches[..., channel]).resize((SIDE, SIDE)) for channel in range(3)]
        canvas += strength * np.stack([np.asarray(layer) for layer in layers], axis=-1)
    file = io.BytesIO()
    Image.fromarray(np.clip(canvas + 128, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _serve(
    addresses: list[str], bodies: list[bytes], port: int, ready: multiprocessing.synchronize.Semaphore
) -> None:
    asyncio.run(_serve_for_ever(addresses, bodies, port, ready))


async def _serve_for_ever(
    addresses: list[str], bodies: list[bytes], port: int, ready: multiprocessing.synchronize.Semaphore
) -> None:
    replies = [_reply(body) for body in bodies]
    extras = {"pixels": _reply(_wide_png()), "head": bodies[0][:1024]}
    loop = asyncio.get_running_loop()
    await loop.create_server(
        lambda: _Connection(replies, extras), addresses, port, reuse_port=True, backlog=4096
    )
    ready.release()
    await asyncio.Event().wait()


def _reply(body: bytes, *, kind: str = "image/jpeg") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _wide_png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (10_000, 6_000)).save(file, "PNG")
    return file.getvalue()


class _Connection(asyncio.Protocol):
    """Answers one request after another; a request has no body."""

    def __init__(self, replies: Sequence[bytes], extras: dict[str, bytes]) -> None:
        self._replies = replies
        self._extras = extras
        self._unread = b""
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            request, self._unread = self._unread[:end], self._unread[end + 4 :]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        kind, _, number = request.split(b" ", 2)[1].lstrip(b"/").decode("latin-1").partition("/")
        reply = self._replies[int(number) % len(self._replies)] if number.isdecimal() else b""
        if kind == "picture":
            self._transport.write(reply)
        elif kind == "pixels":
            self._transport.write(self._extras["pixels"])
        elif kind == "slow":
            asyncio.get_running_loop().call_later(SLOW_S, self._transport.write, reply)
        elif work := self._lasting(kind, reply):
            self._task = asyncio.get_running_loop().create_task(work())
        elif kind != "silent":
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        if b"\r\nconnection: close" in request.lower() and kind in ("picture", "pixels"):
            self._transport.close()

    def _lasting(self, kind: str, reply: bytes) -> Callable[[], object] | None:
        routes = {"drip": lambda: self._drip(reply), "endless": self._endless, "bomb": self._bomb}
        return routes.get(kind)

    async def _drip(self, reply: bytes) -> None:
        for place in range(len(reply)):
            self._transport.write(reply[place : place + 1])
            await asyncio.sleep(_TICK_S)

    async def _endless(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + self._extras["head"])
        await self._repeat(bytes(_BLOCK))

    async def _bomb(self) -> None:
        packer = zlib.compressobj(wbits=31)
        head = packer.compress(self._extras["head"]) + packer.flush(zlib.Z_FULL_FLUSH)
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n" + head
        )
        # After a full flush a block depends on nothing before it, so the same one can follow itself.
        await self._repeat(packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH))

    async def _repeat(self, block: bytes) -> None:
        while not self._transport.is_closing():
            self._transport.write(block)
            await self._writable.wait()
            await asyncio.sleep(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with serving(hosts(arguments.hosts), pictures(), processes=arguments.processes) as port:
        print(f"http://{hosts(1)[0]}:{port}/picture/0", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
