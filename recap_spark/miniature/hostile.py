"""A picture's bytes → a reply as no well-meaning server sends it"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HostileHandler = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]

_BLOCK = 1 << 20
_TICK_S = 0.5


async def truncated(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of the picture, and a length that is true."""
    return web.Response(body=body[: len(body) // 2], content_type="image/jpeg")


async def cut(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of the picture, and a length that promises all of it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    return _raw(request, head.encode() + body[: len(body) // 2])


async def garbage(request: web.Request, body: bytes) -> web.StreamResponse:
    return _raw(request, b"\x00\x01\x02 no status line \xff\r\n\r\n")


async def closed(request: web.Request, body: bytes) -> web.StreamResponse:
    return _raw(request, b"")


async def badgzip(request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(body=body, headers={"Content-Encoding": "gzip"}, content_type="image/jpeg")


async def oversized(request: web.Request, body: bytes) -> web.StreamResponse:
    """The picture, and then zeros for as long as anyone reads."""
    reply = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    await reply.prepare(request)
    await reply.write(body)
    while True:
        await reply.write(bytes(_BLOCK))


async def bomb(request: web.Request, body: bytes) -> web.StreamResponse:
    """A thousandth of what it unpacks to, endlessly."""
    reply = web.StreamResponse(headers={"Content-Type": "image/jpeg", "Content-Encoding": "gzip"})
    await reply.prepare(request)
    packer = zlib.compressobj(wbits=31)
    await reply.write(packer.compress(body) + packer.flush(zlib.Z_FULL_FLUSH))
    # After a full flush the next block depends on nothing before it, so one can be sent again and again.
    zeros = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    while True:
        await reply.write(zeros)


async def drip(request: web.Request, body: bytes) -> web.StreamResponse:
    """A byte at a time: a timeout per read never passes."""
    reply = web.StreamResponse(headers={"Content-Type": "image/jpeg", "Content-Length": str(len(body))})
    await reply.prepare(request)
    for value in body:
        await reply.write(bytes([value]))
        await asyncio.sleep(_TICK_S)
    return reply


async def slowhead(request: web.Request, body: bytes) -> web.StreamResponse:
    """One header at a time, and never the empty line."""
    transport = _transport(request)
    transport.write(b"HTTP/1.1 200 OK\r\n")
    while not transport.is_closing():
        transport.write(b"X-Wait: a little longer\r\n")
        await asyncio.sleep(_TICK_S)
    return web.Response()


ROUTES: dict[str, HostileHandler] = {
    handler.__name__: handler
    for handler in (truncated, cut, garbage, closed, badgzip, oversized, bomb, drip, slowhead)
}


def _raw(request: web.Request, reply: bytes) -> web.StreamResponse:
    transport = _transport(request)
    transport.write(reply)
    transport.close()  # after what is written; aiohttp then finds nobody to send its own reply to
    return web.Response()


def _transport(request: web.Request) -> asyncio.WriteTransport:
    transport = request.transport
    if not isinstance(transport, asyncio.WriteTransport):
        raise web.HTTPServiceUnavailable
    return transport
