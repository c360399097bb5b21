"""The fault matrix: every way that a server, a name or a url is known to fail ends in one status, within the
deadline, and no row is lost.
"""

from __future__ import annotations

import gzip
import io
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pyarrow as pa
import pytest
from PIL import Image

from recap_spark.statuses import PASSING_FAILURES, FetchStatus
from recap_spark.workers.fetcher import fetch_rows


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

# url → its status, without the server.
URLS = {
    None: "bad_url",
    "": "bad_url",
    "no scheme at all": "bad_url",
    "www.example.org/a.jpg": "bad_url",
    "//127.0.0.1/a.jpg": "bad_url",
    "http://": "bad_url",
    "http://[::1": "bad_url",
    "http://a..b/": "bad_url",
    "http://user@127.0.0.1/": "bad_url",
    "http://127.0.0.1:99999/": "bad_url",
    f"http://{'a' * 70}.example/": "bad_url",
    "http://exa\x00mple.org/": "dns",
    "file:///etc/passwd": "unsupported_scheme",
    "ftp://127.0.0.1/a.jpg": "unsupported_scheme",
    "data:image/png;base64,AAAA": "unsupported_scheme",
    "gopher://127.0.0.1/": "unsupported_scheme",
    "http://optedout.example/a.jpg": "opted_out",
    "http://127.0.0.1/private.jpg": "opted_out",
    "http://169.254.169.254/latest/meta-data/": "private_address",
    "http://[::ffff:169.254.169.254]/": "private_address",
    "http://①⑨②.①⑥⑧.⓪.①/": "private_address",
    "http://100.100.100.200/": "private_address",
    "http://127.0.0.1:1/": "connect",
}

# What else can be wrong with a url's writing: it is asked for all the same.
SPELLINGS = {
    "with space": b"/with%20space",
    "with%20space": b"/with%20space",
    "pict\u00fcre": b"/pict%C3%BCre",
    "a?b=c&amp;d=%7E%zz": b"/a?b=c&amp;d=%7E%zz",
    "  padded  ": b"/padded",
    "a#fragment": b"/a",
}


@contextmanager
def misbehaving():
    """A server that does to each connection what REPLIES says for its path; it keeps the request targets."""
    targets = []

    class Handler(StreamRequestHandler):
        def handle(self):
            method, _, rest = self.rfile.readline().partition(b" ")
            if method != b"GET":
                return self.connection.sendall(reply(b"", line="HTTP/1.1 400 Bad Request"))
            target = rest.partition(b" ")[0]
            targets.append(target)
            while self.rfile.readline().strip():
                pass
            path = target.partition(b"?")[0][1:].decode("latin-1")
            behaviour = REPLIES[path][0] if path in REPLIES else reply(line="HTTP/1.1 404 Not Found")
            if callable(behaviour):
                behaviour(self.connection)
            else:
                self.connection.sendall(behaviour)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

        def handle_error(self, request, client_address):
            """A client that hangs up is part of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        server.base, server.targets = f"http://127.0.0.1:{server.server_address[1]}", targets
        yield server
        server.shutdown()


@contextmanager
def full_backlog():
    """A port that takes no connection: its queue is full, and what comes after it gets no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.jpg"


@pytest.fixture
def fetched(decode, rules):
    """url → its row; a url without exactly one is an error."""

    def fetched(urls, limits):
        uids = [f"{number:032x}" for number in range(len(urls))]
        batch = pa.RecordBatch.from_pydict(
            {"uid": uids, "url": pa.array(urls, pa.string()), "sha256": pa.nulls(len(urls), pa.string())}
        )
        found = fetch_rows([batch], settings=limits, decode=decode, rules=rules)
        rows = [row for some in found for row in some.to_pylist()]
        assert sorted(row["uid"] for row in rows) == uids
        by_uid = {row["uid"]: row for row in rows}
        return dict(zip(urls, (by_uid[uid] for uid in uids), strict=True))

    return fetched


@pytest.fixture
def obedient(limits):
    return replace(
        limits,
        robots_txt="obey",
        deadline_s=30.0,  # a busy machine plays a hundred servers here, and few of them are slow
        robots_deadline_s=30.0,
        connections=256,
        connections_per_host=256,
        lookahead=256,
    )


def test_every_fault_ends_in_its_status(obedient, fetched):
    faults = {path: row[1:] for path, row in REPLIES.items() if row[1] != "timeout"}
    with misbehaving() as server, full_backlog() as unanswered:
        expected = {f"{server.base}/{path}": row for path, row in faults.items()}
        expected |= {url: (status, None) for url, status in URLS.items()}
        expected[unanswered] = ("connect", None)
        rows = fetched(list(expected), obedient)
        asked = [target.decode() for target in server.targets]
    found = {
        url: (row["status"], row["attempts"] if expected[url][1] is not None else None)
        for url, row in rows.items()
    }
    assert {url: pair for url, pair in found.items() if pair != expected[url]} == {}
    assert found.keys() == expected.keys()
    assert [path for path in asked if "disallowed" in path] == []
    assert {row["status"] for row in rows.values() if row["bytes"] is not None} == {"ok"}


def test_what_is_too_slow_ends_at_its_deadline(obedient, fetched):
    slow = [path for path, row in REPLIES.items() if row[1] == "timeout"]
    with misbehaving() as server:
        started = time.monotonic()
        rows = fetched([f"{server.base}/{path}" for path in slow], replace(obedient, deadline_s=1.0))
        took_s = time.monotonic() - started
    assert {(row["status"], row["attempts"]) for row in rows.values()} == {("timeout", 1)}
    assert len(rows) == len(slow)
    assert took_s < HELD_OUT_S / 2


def test_a_fault_is_tried_again_just_where_its_cause_may_pass():
    retried = {status for _, status, attempts in REPLIES.values() if attempts == 2 and status != "ok"}
    passing = {str(status) for status in PASSING_FAILURES}
    assert retried < passing
    # The rest of them wait for another run: the deadline is used up, or the host is left alone.
    once = {status for _, status, attempts in REPLIES.values() if attempts < 2}
    assert once & passing == {str(FetchStatus.TIMEOUT)}


def test_the_same_fault_many_times_over_is_as_many_rows(obedient, fetched):
    with misbehaving() as server:
        urls = [f"{server.base}/closed-within-the-body?{number}" for number in range(200)]
        rows = fetched(urls, obedient)
    assert {row["status"] for row in rows.values()} == {"incomplete"}


@pytest.mark.parametrize(("path", "target"), SPELLINGS.items())
def test_odd_spellings_of_a_path_are_asked_for_as_browsers_do(limits, path, target, fetched):
    with misbehaving() as server:
        url = f"{server.base}/{path}" if not path.startswith(" ") else f"  {server.base}/{path.strip()}  "
        assert fetched([url], limits)[url]["status"] == "gone"
    assert server.targets == [target]


TLS_FAULTS = {
    "self-signed": ("/CN=127.0.0.1", "IP:127.0.0.1", 30),
    "for-another-name": ("/CN=other.example", "DNS:other.example", 30),
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_a_certificate_that_does_not_vouch_for_the_host_ends_as_tls_once(limits, tmp_path, fault, fetched):
    subject, names, days = TLS_FAULTS[fault]
    options = f"-nodes -keyout key.pem -out certificate.pem -subj {subject} -addext subjectAltName={names}"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", str(days), *options.split()],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with misbehaving() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.base.replace("http:", "https:") + "/plain"
        (row,) = fetched([url], limits).values()
    assert (row["status"], row["attempts"]) == ("tls", 1)
    assert server.targets == []


def test_tls_with_a_server_that_speaks_none_ends_as_tls(limits, fetched):
    with misbehaving() as server:
        url = server.base.replace("http:", "https:") + "/plain"
        (row,) = fetched([url], limits).values()
    assert row["status"] == "tls"
