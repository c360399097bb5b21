"""Every way that a server is known to fail, by path, and how each ends"""

from __future__ import annotations

import gzip
import io
import socket
import struct
import threading
import time
import zlib
from itertools import count

from PIL import Image


def _picture(kind):
    file = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(file, kind)
    return file.getvalue()


JPEG, PNG = _picture("jpeg"), _picture("png")
CRLF = "\r\n"

# How long a server that says nothing stays so: nobody may have waited for its end.
HELD_OUT_S = 60.0


def reply(body=JPEG, *headers, line="HTTP/1.1 200 OK", length=None):
    """A reply as bytes, with a length that is true if none is given."""
    head = [line, *headers, "Connection: close", f"Content-Length: {len(body) if length is None else length}"]
    return (CRLF.join(head) + CRLF * 2).encode("latin-1") + body


def bare(*lines, body=b""):
    """A reply with these lines for its head and nothing else."""
    return (CRLF.join(lines) + CRLF * 2).encode("latin-1") + body


def redirect(location, *, code=302):
    return reply(b"", f"Location: {location}", line=f"HTTP/1.1 {code} Elsewhere")


def chunked(*chunks, end=b"0\r\n\r\n"):
    sizes = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return bare("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=sizes + end)


def sends(*pieces, pause_s=0.0, forever=False):
    """Send one piece after another, the last again and again if for ever."""

    def send(connection):
        for piece in pieces[:-1]:
            connection.sendall(piece)
            time.sleep(pause_s)
        for _ in count() if forever else range(1):
            connection.sendall(pieces[-1])
            time.sleep(pause_s)

    return send


def resets(*pieces):
    """Send, and then end the connection as a crash does."""

    def send(connection):
        for piece in pieces:
            connection.sendall(piece)
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return send


def hangs(connection):
    time.sleep(HELD_OUT_S)


def the_second_time(first, then):
    """Another reply to the first request than to those after it."""
    replies = iter((first,))
    lock = threading.Lock()

    def send(connection):
        with lock:
            piece = next(replies, then)
        connection.sendall(piece)

    return send


_ENCODED = "Content-Encoding: "
_ZEROS = gzip.compress(bytes(1 << 24))

# path → what the server does there, the status, and how many attempts it is worth.
REPLIES = {
    # Good enough.
    "plain": (reply(), "ok", 1),
    "png-named-jpg": (reply(PNG, "Content-Type: image/jpeg"), "ok", 1),
    "picture-as-text": (reply(JPEG, "Content-Type: text/html"), "ok", 1),
    "http-1.0-without-length": (bare("HTTP/1.0 200 OK", body=JPEG), "ok", 1),
    "chunked": (chunked(JPEG[:100], JPEG[100:]), "ok", 1),
    "chunked-with-trailers": (chunked(JPEG, end=b"0\r\nX-Sum: 1\r\n\r\n"), "ok", 1),
    "gzip": (reply(gzip.compress(JPEG), _ENCODED + "gzip"), "ok", 1),
    "deflate": (reply(zlib.compress(JPEG), _ENCODED + "deflate"), "ok", 1),
    "reason-missing": (reply(line="HTTP/1.1 200"), "ok", 1),
    "continue-first": (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(), "ok", 1),
    "early-hints-first": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + reply(), "ok", 1),
    # Not a picture.
    "page": (reply(b"<!doctype html><p>Gone", "Content-Type: image/jpeg"), "not_an_image", 1),
    "empty": (reply(b""), "not_an_image", 1),
    "half-a-picture": (reply(JPEG[: len(JPEG) // 2]), "undecodable", 1),
    "gzip-cut-short": (reply(gzip.compress(JPEG)[:-20], _ENCODED + "gzip"), "undecodable", 1),
    # Codes.
    "204": (bare("HTTP/1.1 204 No Content"), "http_other", 1),
    "206": (reply(line="HTTP/1.1 206 Partial Content"), "http_other", 1),
    "304": (bare("HTTP/1.1 304 Not Modified"), "http_other", 1),
    "300-without-location": (reply(line="HTTP/1.1 300 Multiple Choices"), "http_other", 1),
    "302-without-location": (reply(line="HTTP/1.1 302 Found"), "http_other", 1),
    "400": (reply(line="HTTP/1.1 400 Bad Request"), "http_4xx", 1),
    "401": (reply(line="HTTP/1.1 401 Unauthorized"), "forbidden", 1),
    "402": (reply(line="HTTP/1.1 402 Payment Required"), "http_4xx", 1),
    "403": (reply(line="HTTP/1.1 403 Forbidden"), "forbidden", 1),
    "404": (reply(line="HTTP/1.1 404 Not Found"), "gone", 1),
    "410": (reply(line="HTTP/1.1 410 Gone"), "gone", 1),
    "451": (reply(line="HTTP/1.1 451 Unavailable"), "forbidden", 1),
    "500": (reply(line="HTTP/1.1 500 Oops"), "http_5xx", 2),
    "599": (reply(line="HTTP/1.1 599 Oops"), "http_5xx", 2),
    "999": (reply(line="HTTP/1.1 999 Denied"), "http_other", 1),
    "500-then-well": (the_second_time(reply(line="HTTP/1.1 500 Oops"), reply()), "ok", 2),
    # Not HTTP.
    "garbage": (b"\x00\x01\x02\xff\r\n\r\n", "protocol", 2),
    "another-protocol": (b"220 ftp.example ready\r\n", "protocol", 2),
    "tls-on-the-plain-port": (b"\x15\x03\x01\x00\x02\x02\x46", "protocol", 2),
    "length-not-a-number": (reply(length="12x"), "protocol", 2),
    "length-negative": (reply(length="-1"), "protocol", 2),
    "two-lengths": (reply(JPEG, "Content-Length: 1"), "protocol", 2),
    "a-megabyte-of-header": (reply(JPEG, "X-Long: " + "x" * (1 << 20)), "protocol", 2),
    "too-many-headers": (reply(JPEG, *[f"X-{number}: 1" for number in range(100_000)]), "protocol", 2),
    "chunk-size-not-hexadecimal": (chunked(JPEG, end=b"zz\r\n"), "protocol", 2),
    "gzip-that-is-none": (reply(JPEG, _ENCODED + "gzip"), "protocol", 2),
    "encoding-unknown-here": (reply(JPEG, _ENCODED + "sdch"), "ok", 1),  # the bytes are the picture after all
    # Cut short.
    "closed-at-once": (b"", "connect", 2),
    "reset-at-once": (resets(), "connect", 2),
    "closed-within-the-head": (b"HTTP/1.1 200 OK\r\nContent-", "connect", 2),
    "closed-within-the-body": (reply(length=len(JPEG) + 1), "incomplete", 2),
    "reset-within-the-body": (resets(reply(length=len(JPEG) + 1)), "incomplete", 2),
    "chunks-without-end": (chunked(JPEG, end=b""), "incomplete", 2),
    "length-too-short": (reply(length=len(JPEG) // 2), "protocol", 2),
    # Too much.
    "announces-a-terabyte": (reply(JPEG, length=1 << 40), "too_large", 1),
    "endless-chunks": (sends(chunked(end=b""), b"10000\r\n" + bytes(1 << 16) + CRLF.encode(), forever=True),
                       "too_large", 1),
    "endless-without-length": (sends(bare("HTTP/1.0 200 OK"), bytes(1 << 16), forever=True), "too_large", 1),
    "gzip-bomb": (reply(_ZEROS, _ENCODED + "gzip"), "too_large", 1),
    "gzip-bomb-of-many-members": (reply(gzip.compress(bytes(1 << 16)) * 300, _ENCODED + "gzip"),
                                  "too_large", 1),
    "deflate-bomb": (reply(zlib.compress(bytes(1 << 24)), _ENCODED + "deflate"), "too_large", 1),
    # Too slow: a timeout on each read would never pass.
    "silent": (hangs, "timeout", 1),
    "drips-its-head": (sends(*[b"%c" % byte for byte in reply()], pause_s=0.1), "timeout", 1),
    "drips-headers": (sends(b"HTTP/1.1 200 OK\r\n", b"X-Wait: 1\r\n", pause_s=0.1, forever=True),
                      "timeout", 1),
    "drips-its-body": (sends(reply(b"", length=len(JPEG)), *[b"%c" % byte for byte in JPEG], pause_s=0.1),
                       "timeout", 1),
    "drips-chunks": (sends(chunked(end=b""), b"1\r\nx\r\n", pause_s=0.1, forever=True), "timeout", 1),
    "stalls-within-the-body": (sends(reply(JPEG[:100], length=len(JPEG)), b"", pause_s=HELD_OUT_S),
                               "timeout", 1),
    # Asks for patience.
    "429-for-a-moment": (the_second_time(reply(b"", "Retry-After: 0", line="HTTP/1.1 429 Slow"), reply()),
                         "ok", 2),
    "503-for-a-moment": (the_second_time(reply(b"", "Retry-After: 0", line="HTTP/1.1 503 Slow"), reply()),
                         "ok", 2),
    "429-with-nonsense": (the_second_time(reply(b"", "Retry-After: soon", line="HTTP/1.1 429 Slow"), reply()),
                          "ok", 2),
    "429-with-a-date-that-is-none": (
        the_second_time(
            reply(b"", "Retry-After: Wed, 99 Oct 99999 07:28:00 +9999999999", line="HTTP/1.1 429 Slow"),
            reply(),
        ),
        "ok",
        2,
    ),
    "429-without-end": (reply(b"", line="HTTP/1.1 429 Slow"), "throttled", 2),
    # Leads elsewhere.
    "to-plain": (redirect("/plain"), "ok", 1),
    "to-plain-301": (redirect("/plain", code=301), "ok", 1),
    "to-plain-308": (redirect("plain?x=1", code=308), "ok", 1),
    "to-latin-1": (redirect("/caf\xe9"), "gone", 1),
    "to-itself": (redirect("/to-itself"), "redirect_limit", 1),
    "to-metadata": (redirect("http://169.254.169.254/latest/meta-data/"), "private_address", 1),
    "to-metadata-v6": (redirect("http://[fd00:ec2::254]/"), "private_address", 1),
    "to-nat64-loopback": (redirect("http://[64:ff9b::7f00:2]/"), "private_address", 1),
    "to-mapped-private": (redirect("http://[::ffff:10.0.0.1]/"), "private_address", 1),
    "to-a-file": (redirect("file:///etc/passwd"), "unsupported_scheme", 1),
    "to-data": (redirect("data:image/png;base64,AAAA"), "unsupported_scheme", 1),
    "to-javascript": (redirect("javascript:alert(1)"), "unsupported_scheme", 1),
    "to-userinfo": (redirect("http://user:word@127.0.0.1/"), "bad_url", 1),
    "to-no-host": (redirect("http:///plain"), "ok", 1),  # then the host that sends it is meant
    "to-a-broken-host": (redirect("http://[::1"), "bad_url", 1),
    "to-opted-out": (redirect("https://cdn.optedout.example/a.jpg"), "opted_out", 1),
    # Reserved.
    "noai": (reply(JPEG, "X-Robots-Tag: noai"), "robots", 1),
    "noai-for-us": (reply(JPEG, "X-Robots-Tag: otherbot: nofollow, recap-spark: noai"), "robots", 1),
    "noai-for-another": (reply(JPEG, "X-Robots-Tag: otherbot: noai"), "ok", 1),
    "noai-after-a-value": (reply(JPEG, "X-Robots-Tag: max-snippet: 5, noai"), "robots", 1),
    "noai-in-a-second-header": (reply(JPEG, "X-Robots-Tag: all", "X-Robots-Tag: noai"), "robots", 1),
    "noml": (reply(JPEG, "X-Robots-Tag: noml"), "reserved", 1),
    "tdm-reserved": (reply(JPEG, "tdm-reservation: 1"), "reserved", 1),
    "tdm-not-reserved": (reply(JPEG, "tdm-reservation: 0"), "ok", 1),
    "disallowed/by-robots-txt": (reply(), "robots", 0),
    "robots.txt": (reply(b"User-agent: *\nDisallow: /disallowed/\n"), "not_an_image", 1),
}  # fmt: skip
