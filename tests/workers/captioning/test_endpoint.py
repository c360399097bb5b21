"""A captioner behind a server is one like any other, and the miniature says there what it says here."""

import base64
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from tempfile import gettempdir

import pyarrow as pa
import pytest
from chat_server import Chat
from laptop import captioner, endpoint, laptop, with_captioner
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from repository import CHAT_SERVER

from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.models.pixels import OPENAI_FILL, to_pixels
from recap_spark.settings.endpoint import EndpointSettings
from recap_spark.workers.captioning.captioner import CaptionerSpec
from recap_spark.workers.captioning.endpoint import (
    EndpointCaptionerSpec,
    SentPictureSettings,
    data_url,
    describe_endpoint,
)
from recap_spark.workers.captioning.engines import AnyCaptionerSpec, caption_partition, captioner_spec
from recap_spark.workers.captioning.journal import Journal
from recap_spark.workers.captioning.supervisor import process

WITH_A_KEY = {"command": ["vllm", "--api-key", "canary"], "start_timeout_s": 1.0, "stop_timeout_s": 1.0}


@pytest.fixture
def served() -> EndpointCaptionerSpec:
    return endpoint()


def images(count: int) -> list[dict[str, object]]:
    return [{"uid": f"{n:032x}", "bytes": render_bytes(draw_scene(HELD_OUT[n]))} for n in range(count)]


def captions(spec: AnyCaptionerSpec, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    parts = [pa.RecordBatch.from_pylist(rows)]
    answers = caption_partition(
        parts, spec=spec, device=lambda: "cpu", key="one", journal=Journal(gettempdir())
    )
    return sorted((row for batch in answers for row in batch.to_pylist()), key=lambda row: row["uid"])


@pytest.fixture(autouse=True)
def _own_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None of a test's servers outlives it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    for supervisor in _supervisors(tmp_path):
        os.kill(supervisor, signal.SIGTERM)
        while process(supervisor) is not None:
            time.sleep(0.05)


def _supervisors(folder: Path) -> list[int]:
    return [int(json.loads(path.read_text())["pid"]) for path in folder.glob("recap_spark-*/*/state.json")]


@pytest.mark.server
def test_a_served_captioner_says_what_it_says_in_this_process(served):
    """By `transformers serve`, whose start is nearly all of the time that this takes."""
    rows = images(6)
    rows[2] = {"uid": "b" * 32, "bytes": b"\xff\xd8\xff no picture"}
    here = captions(captioner(), rows)
    assert [row["status"] for row in here] == ["ok", "ok", "ok", "ok", "ok", "undecodable"]
    assert captions(served, rows) == here
    (cut,) = captions(with_captioner(served, max_new_tokens=5), images(1))
    assert (cut["finish_reason"], cut["tokens"], cut["status"]) == ("length", 5, "ok")


def asked(served: EndpointCaptionerSpec, **changed: object) -> EndpointCaptionerSpec:
    return with_captioner(served, endpoint=replace(served.endpoint, **changed))


def test_a_server_that_dies_between_two_partitions_comes_back_unnoticed(served):
    serve = replace(served.endpoint.serve, command=("{python}", str(CHAT_SERVER), "{port}"))
    spec = asked(served, serve=serve, concurrency=1)
    before = captions(spec, images(2))
    assert [row["status"] for row in before] == ["ok", "ok"]
    (first,) = {int(row["caption"]) for row in before}
    os.kill(first, signal.SIGKILL)
    after = captions(spec, images(2))
    (second,) = {int(row["caption"]) for row in after}
    assert second != first
    assert [row["status"] for row in after] == ["ok", "ok"]


def test_as_many_requests_are_in_flight_as_conf_allows(served):
    together = threading.Barrier(4)

    class Together(Chat):
        def do_POST(self):  # noqa: N802  the library's name
            together.wait(30)  # breaks where fewer than four come at once
            super().do_POST()

    with ThreadingHTTPServer(("127.0.0.1", 0), Together) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/"
        answered = captions(asked(served, base_url=url, serve=None, concurrency=4), images(12))
        server.shutdown()
    assert [row["caption"] for row in answered] == [str(os.getpid())] * 12


def test_a_picture_travels_as_the_pixels_that_the_vision_tower_sees():
    picture = Image.effect_noise((40, 60), 60).convert("RGB")
    url = data_url(picture, SentPictureSettings(side=64, format="png", jpeg_quality=95))
    kind, _, body = url.partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(body))) as sent:
        pixels = to_pixels(sent.convert("RGB"), side=64, fill=OPENAI_FILL)
    assert kind == "data:image/png"
    assert pixels.equal(to_pixels(picture, side=64, fill=OPENAI_FILL))
    smaller = data_url(picture, SentPictureSettings(side=64, format="jpeg", jpeg_quality=50))
    assert smaller.startswith("data:image/jpeg;base64,")
    assert len(smaller) < len(url)


def test_where_a_server_stands_and_how_it_is_asked_make_no_other_captioner(served):
    elsewhere = asked(served, concurrency=9, attempts=9, timeout_s=9.0, api_key_env="KEY")
    assert describe_endpoint(elsewhere) == describe_endpoint(served)


def test_what_changes_the_words_makes_another_captioner(served):
    coarser = SentPictureSettings(side=64, format="jpeg", jpeg_quality=95)
    keys = {
        describe_endpoint(spec)["captioner"]
        for spec in (
            served,
            with_captioner(served, prompt="What is this?"),
            asked(served, temperature=1.0),
            asked(served, picture=coarser),
        )
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"serve": None}, "want either base_url or serve, found neither"),
        ({"base_url": "http://h/v1"}, "want either base_url or serve, found both"),
        ({"base_url": "https://me:canary@h/v1", "serve": None}, "want no user, password or query in it"),
        ({"base_url": "https://h/v1?key=canary", "serve": None}, "want no user, password or query in it"),
        ({"base_url": "h:8000/v1", "serve": None}, "want http:// or https://"),
        ({"serve": WITH_A_KEY}, "want no key in it"),
        ({"api_key": "canary"}, "Unexpected keyword argument"),
        ({"concurrency": 0}, "greater than or equal to 1"),
    ],
)
def test_an_endpoint_that_contradicts_itself_or_carries_a_key_is_refused(served, changed, said):
    values = json.dumps(asdict(served.endpoint) | changed)
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(EndpointSettings).validate_json(values)
    (problem,) = raised.value.errors()
    assert said in problem["msg"]
    assert "canary" not in problem["msg"]


def test_a_captioner_s_kind_is_told_by_its_engine():
    names = ("miniature", "miniature_served", "vllm")
    kinds = {name: type(captioner_spec(laptop(caption__captioner=name).caption)) for name in names}
    assert kinds == {
        "miniature": CaptionerSpec,
        "miniature_served": EndpointCaptionerSpec,
        "vllm": EndpointCaptionerSpec,
    }
