from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import process_tree
import pytest
from PIL import Image

from recap_spark.miniature.server import Server, serve
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.workers.pictures.preparing import Prepared, prepare

if TYPE_CHECKING:
    from tiny_checkpoint import Made


@pytest.fixture
def limits() -> FetchLimits:
    """Impatient limits that may reach the server under test, and no other private address."""
    return FetchLimits(
        user_agent="recap-spark/0.1",
        contact_url="https://recap.example/bot",
        deadline_s=2.5,
        connect_s=1.0,
        largest_bytes=1 << 20,
        redirects=4,
        attempts=2,
        backoff_s=0.02,
        longest_retry_after_s=1.5,
        compute_hash="sha256",
        hash_mismatch="refuse",
        reachable_private_networks=("127.0.0.1/32",),
        ports=None,
        opted_out_domains=frozenset({"optedout.example"}),
        opted_out_urls=frozenset({"http://127.0.0.1/private.jpg"}),
        opted_out_file=None,
        disallowed_directives=frozenset({"noai", "noimageai", "noindex", "noml"}),
        tdm_reservation="refuse",
        robots_txt="ignore",  # the tests of robots.txt say obey; the others count requests
        robots_deadline_s=2.0,
        robots_largest_bytes=512_000,
        robots_ttl_s=3600.0,
        robots_unreachable_for_s=60.0,
        robots_memory_bytes=1 << 20,
        robots_disk_bytes=4 << 20,
        longest_crawl_delay_s=1.0,
        connections=32,
        hosts_shared_by="process",
        connections_per_host=32,
        host_delay_s=0.0,
        lookahead=64,
        keep_alive_s=5.0,
        dns_ttl_s=60,
        dns_threads=4,
        hosts_remembered=1000,
        dead_after_failures=1000,
        dead_for_s=60.0,
        bytes_in_flight=32 << 20,
        batch_bytes=16 << 20,
        batch_rows=256,
    )


@pytest.fixture
def decode() -> DecodeLimits:
    return DecodeLimits(largest_pixels=1_000_000, memory_bytes=512 << 20, cpu_s=20.0)


@pytest.fixture
def rules() -> PictureRules:
    """Pictures stay as they are; one decoder."""
    return PictureRules(
        min_image_size=0,
        max_aspect_ratio=None,
        resize_mode="no",
        image_size=64,
        resize_only_if_bigger=False,
        downscale_interpolation="area",
        upscale_interpolation="lanczos",
        faces="blur",
        reencode="changed",
        encode_format="png",
        encode_quality=1,
        extract_exif=False,
        decode_processes=1,
    )


@pytest.fixture
def prepared(rules: PictureRules) -> Callable[..., Prepared]:
    """Prepares a body by the rules, but for what is changed of them."""

    def prepared(body, *, faces=(), largest_pixels=1_000_000, **changes):
        return prepare(body, faces=faces, rules=replace(rules, **changes), largest_pixels=largest_pixels)

    return prepared


@pytest.fixture(params=["in the checkpoint", "beside it"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A checkpoint in the original layout, with its vision tower here or there."""
    return _made(tmp_path, tower=request.param)


@pytest.fixture
def whole(tmp_path: Path) -> Made:
    """A checkpoint that holds its vision tower, as the released one does."""
    return _made(tmp_path, tower="in the checkpoint")


def _made(folder: Path, *, tower: str) -> Made:
    from tiny_checkpoint import make  # here, since torch and transformers take seconds that few tests need

    return make(folder, tower=tower)


@dataclass(frozen=True)
class Web:
    """A miniature web and the pictures behind it, by name."""

    server: Server
    pictures: dict[str, bytes]

    def url(self, path: str) -> str:
        return f"{self.server.base_url}/{path}"


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder: Path = tmp_path_factory.mktemp("web")
    (folder / "images").mkdir()
    pictures = {}
    for name in ("a.jpg", "b.png", "c.webp"):
        path = folder / "images" / name
        Image.effect_noise((64, 48), 60).convert("RGB").save(path)  # noise: no two of them alike
        pictures[name] = path.read_bytes()
    with serve(folder) as server:
        yield Web(server=server, pictures=pictures)


@pytest.fixture
def handled() -> Callable[..., AbstractContextManager[ThreadingHTTPServer]]:
    """Start a server of one handler, for what the miniature web does not tell."""
    return _handled


@contextmanager
def _handled(answer):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            answer(self)

        def reply(self, code, body, headers=None, *, close=False):
            self.send_response_only(code)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = close

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request, client_address):
            """A client that hangs up is part of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}/a.jpg"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def own_decoders() -> Callable[[], dict[int, int]]:
    """The processes that decode for this one, but for those of models that earlier tests have left loaded:
    process id → resident bytes.
    """
    elders = process_tree.decoders().keys()

    def living() -> dict[int, int]:
        mine = {process for process, parent in process_tree.decoders().items() if parent == os.getpid()}
        return {process: process_tree.resident_bytes(process) for process in mine - elders}

    return living
