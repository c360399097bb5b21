"""An executor has one server, which the first to ask starts, which comes back, and which ends with it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import recap_spark
from recap_spark.errors import PlatformError
from recap_spark.settings.endpoint import ServerSettings
from recap_spark.workers.captioning.server import served_url
from recap_spark.workers.captioning.supervisor import process

PACKAGES = str(Path(recap_spark.__file__).parents[1])

# Says who it is and what it sees; /die ends it as a crash would.
SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(1)
        who = {"pid": os.getpid(), "model": sys.argv[2], "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}
        body = json.dumps(who).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# An executor: two Python workers that ask at once and end; then it stays.
EXECUTOR = """
import subprocess, sys, time
workers = [subprocess.Popen([sys.argv[1], "-c", sys.argv[2]], stdout=subprocess.PIPE) for _ in range(2)]
for worker in workers:
    print(worker.communicate()[0].decode().strip(), flush=True)
time.sleep(600)
"""

WORKER = """
import sys
from recap_spark.settings.endpoint import ServerSettings
from recap_spark.workers.captioning.server import served_url
spec = ServerSettings(command=({python!r}, "-c", {server!r}, "{{port}}", "{{model}}"),
                 start_timeout_s=60.0, stop_timeout_s=2.0)
print(served_url(spec, words={{"model": "m"}}, device="cpu"))
"""


WORDS = {"model": "m"}


def spec(*, command: tuple[str, ...] = ("{python}", "-c", SERVER, "{port}", "{model}")) -> ServerSettings:
    return ServerSettings(command=command, start_timeout_s=60.0, stop_timeout_s=2.0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers of a test of their own, none of which outlives it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    for path in tmp_path.glob("recap_spark-*/*/state.json"):
        supervisor = process(json.loads(path.read_text())["pid"])
        if supervisor is not None:
            os.kill(int(supervisor["pid"]), signal.SIGTERM)
            until(lambda pid=supervisor["pid"]: process(pid) is None)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[str]]]]:
    """Start a process that the kernel calls `java`, and read where its two workers found the server."""
    (tmp_path / "java").symlink_to(Path(sys.executable).resolve())
    started = []

    def start() -> tuple[subprocess.Popen[str], list[str]]:
        worker = WORKER.format(python=sys.executable, server=SERVER)
        command = [str(tmp_path / "java"), "-c", EXECUTOR, sys.executable, worker]
        environment = os.environ | {"PYTHONPATH": PACKAGES}
        jvm = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(jvm)
        assert jvm.stdout is not None
        return jvm, [jvm.stdout.readline().strip() for _ in range(2)]

    yield start
    for jvm in started:
        jvm.kill()
        jvm.communicate()


def answer(url: str) -> dict[str, str]:
    with urllib.request.urlopen(url.replace("/v1", "/health"), timeout=10) as reply:
        return json.loads(reply.read())


def until(happened: Callable[[], bool]) -> None:
    for _ in range(1200):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


def test_workers_that_ask_at_once_find_one_server_that_outlives_them_and_ends_with_the_executor(
    executor, tmp_path
):
    jvm, (first, second) = executor()
    assert first == second
    server = answer(first)["pid"]
    assert process(server) is not None
    jvm.send_signal(signal.SIGKILL)
    until(lambda: process(server) is None)
    until(lambda: not any(tmp_path.glob("recap_spark-*/*")))


def test_two_executors_of_one_machine_have_a_server_each(executor):
    (_, (one, _)), (_, (other, _)) = executor(), executor()
    assert answer(one)["pid"] != answer(other)["pid"]


def test_a_server_that_died_is_started_anew(tmp_path):
    first = served_url(spec(), words=WORDS, device="cpu")
    before = answer(first)["pid"]
    assert served_url(spec(), words=WORDS, device="cpu") == first
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        answer(first.replace("/v1", "/die"))
    until(lambda: process(before) is None)
    after = answer(served_url(spec(), words=WORDS, device="cpu"))["pid"]
    assert after != before


def test_a_server_ends_with_its_supervisor_even_where_that_was_killed(tmp_path):
    server = answer(served_url(spec(), words=WORDS, device="cpu"))["pid"]
    (state,) = tmp_path.glob("recap_spark-*/*/state.json")
    os.kill(int(json.loads(state.read_text())["pid"]), signal.SIGKILL)
    until(lambda: process(server) is None)


def test_each_gpu_has_a_server_that_sees_no_other(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    seen = [answer(served_url(spec(), words=WORDS, device=device)) for device in ("cuda:0", "cuda:1", "cpu")]
    assert [each["gpus"] for each in seen] == ["GPU-a", "GPU-b", ""]
    assert len({each["pid"] for each in seen}) == 3
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert answer(served_url(spec(), words={"model": "other"}, device="cuda:3"))["gpus"] == "3"


def test_a_server_that_will_not_start_is_an_error_with_its_last_words():
    broken = spec(command=("{python}", "-c", "raise SystemExit('no such model: {model}')", "{port}"))
    with pytest.raises(PlatformError, match="no such model: m"):
        served_url(broken, words=WORDS, device="cpu")


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(PlatformError, match="no-such-server"):
        served_url(spec(command=("no-such-server", "{port}")), words=WORDS, device="cpu")
