from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from repository import ROOT

from recap_spark.errors import PlatformError
from recap_spark.miniature.server import serve

PICTURES = {"a.jpg": b"\xff\xd8\xff picture a", "b.png": b"\x89PNG picture b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    (folder / "images").mkdir()
    (folder / "secret.txt").write_text("outside images")
    for name, body in PICTURES.items():
        (folder / "images" / name).write_bytes(body)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with serve(folder) as server:
        yield server


def ask(server, path):
    """Status, type and body of a reply, whatever the status."""
    try:
        with urllib.request.urlopen(f"{server.base_url}{path}", timeout=5) as reply:
            return reply.status, reply.headers.get_content_type(), reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/images/a.jpg", (200, "image/jpeg", PICTURES["a.jpg"])),
        ("/images/b.png", (200, "image/png", PICTURES["b.png"])),
        ("/mislabelled/a.jpg", (200, "text/plain", PICTURES["a.jpg"])),
        ("/swapped/a.jpg", (200, "image/jpeg", PICTURES["b.png"])),
        ("/truncated/a.jpg", (200, "image/jpeg", PICTURES["a.jpg"][:6])),
        ("/redirect/3/a.jpg", (200, "image/jpeg", PICTURES["a.jpg"])),
        ("/robots/a.jpg", (200, "image/jpeg", PICTURES["a.jpg"])),
    ],
)
def test_each_route_sends_what_its_name_says(server, path, reply):
    assert ask(server, path) == reply


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing/a.jpg", 404),
        ("/gone/a.jpg", 410),
        ("/forbidden/a.jpg", 403),
        ("/error/a.jpg", 503),
        ("/images/no-such.jpg", 404),
        ("/images/..%2Fsecret.txt", 404),
        ("/images/%2e%2e%2fsecret.txt", 404),
    ],
)
def test_refusals_have_their_code_and_nothing_outside_the_folder_is_served(server, path, code):
    assert ask(server, path)[0] == code


@pytest.mark.parametrize(("route", "code"), [("throttled", 429), ("flaky", 503)])
def test_some_routes_work_the_second_time_for_each_name(server, route, code):
    assert [ask(server, f"/{route}/{name}")[0] for name in ("a.jpg", "a.jpg", "b.png", "b.png")] == [
        code,
        200,
        code,
        200,
    ]


def test_the_log_counts_what_was_asked_for(server):
    before = server.asked().get("/images/a.jpg", 0)
    ask(server, "/images/a.jpg?whatever")
    assert server.asked()["/images/a.jpg"] == before + 1
    assert "/_log" not in server.asked()


def test_a_fixed_port_serves_the_same_urls_again(folder):
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    for _ in range(2):
        with serve(folder, port=port) as server:
            assert server.base_url == f"http://127.0.0.1:{port}"
            assert ask(server, "/images/a.jpg")[0] == 200


def test_a_port_that_is_taken_is_an_error(folder, server):
    with (
        pytest.raises(PlatformError, match="found it taken"),
        serve(folder, port=int(server.base_url.rpartition(":")[2])),
    ):
        pass


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_dies_with_the_program_that_started_it(folder, end):
    program = (
        "import sys, time; from pathlib import Path; from recap_spark.miniature.server import serve\n"
        "with serve(Path(sys.argv[1])) as server:\n"
        "    print(server.base_url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    ) as process:
        address = process.stdout.readline().strip().removeprefix("http://").split(":")
        socket.create_connection(address, timeout=5).close()
        os.kill(process.pid, end)
        process.wait(timeout=10)
    assert _refuses_within(5.0, address)


def _refuses_within(seconds, address):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            socket.create_connection(address, timeout=1).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.05)
    return False
