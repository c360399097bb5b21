from __future__ import annotations

import resource
import socket
import ssl
import subprocess
from dataclasses import replace

import pytest
from downloads import only, requests, statuses

from recap_spark.errors import PlatformError
from recap_spark.workers.fetching.download import download_all

INWARD_HOSTS = [
    "127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "localhost",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "0",
]


def test_no_spelling_of_loopback_reaches_a_server_there(web, limits):
    port = web.server.base_url.rpartition(":")[2]
    urls = [f"http://{host}:{port}/images/unreached-{number}.jpg" for number, host in enumerate(INWARD_HOSTS)]
    found = statuses(urls, replace(limits, reachable_private_networks=()))
    assert set(found.values()) <= {"private_address", "bad_url"}
    assert not [path for path in web.server.asked() if "unreached" in path]


@pytest.mark.parametrize("target", ["127.0.0.2", "[::ffff:127.0.0.2]", "①②⑦.⓪.⓪.②"])
def test_a_redirect_inwards_never_opens_a_connection(web, limits, target):
    with socket.create_server(("127.0.0.2", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        download = only(web.url(f"away/a.jpg?to=http://{target}:{port}/"), limits)
        assert download.status == "private_address"
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_ports_outside_the_list_are_refused_on_redirects_too(web, limits):
    port = int(web.server.base_url.rpartition(":")[2])
    narrow = replace(limits, ports=(port,))
    assert only(web.url("images/a.jpg"), narrow).status == "ok"
    assert only(web.url("away/a.jpg?to=http://127.0.0.1:22/"), narrow).status == "bad_url"
    assert only("http://127.0.0.1:22/", narrow).attempts == 0


def test_proxies_named_by_the_environment_are_not_used(web, limits, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert only(web.url("images/a.jpg"), limits).status == "ok"


def test_a_certificate_that_nobody_vouches_for_is_refused(handled, limits, tmp_path):
    options = (
        "-nodes -keyout key.pem -out certificate.pem -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *options.split()],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with handled(lambda handler: handler.reply(200, b"unread")) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        download = only(f"https://127.0.0.1:{server.server_port}/", limits)
    assert (download.status, download.body) == ("tls", None)
    assert download.detail.startswith("certificate: self")


def test_a_fetch_may_open_as_many_sockets_as_the_machine_lets_it_and_says_where_these_are_too_few(
    web, limits
):
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert only(web.url("images/a.jpg"), limits).status == "ok"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    with pytest.raises(PlatformError, match=r"want \d+ file descriptors for fetch.limits.connections"):
        only(web.url("images/a.jpg"), replace(limits, connections=10**9))


def test_the_request_says_who_asks_and_carries_nothing_else(handled, limits):
    seen = []

    def answer(handler):
        seen.append(dict(handler.headers))
        handler.reply(200, b"picture", {"Set-Cookie": "id=1; Path=/"})

    with handled(answer) as server:
        list(download_all(requests(*[server.url] * 2), settings=replace(limits, connections=1)))
    expected = {
        "Host": f"127.0.0.1:{server.server_port}",
        "User-Agent": "recap-spark/0.1 (+https://recap.example/bot)",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    assert seen == [expected, expected]
