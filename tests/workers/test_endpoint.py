"""The miniature captioner behind `transformers serve` says what it says in this process."""

import base64
import io
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.models.pixels import OPENAI_FILL, to_pixels
from recap_spark.settings import load
from recap_spark.stages.caption import captioner_spec
from recap_spark.workers.captioner import CaptionerSpec
from recap_spark.workers.endpoint import (
    Endpoint,
    EndpointCaptionerSpec,
    PictureRule,
    data_url,
    describe_endpoint,
)
from recap_spark.workers.engines import AnyCaptionerSpec, caption_partition
from recap_spark.workers.partition import loaded
from recap_spark.workers.server import served_url

CONF = Path(__file__).parents[2] / "conf"


def named(name: str, tmp_path: Path) -> AnyCaptionerSpec:
    """The captioner of conf/captioners/NAME.yml on a laptop."""
    mine = tmp_path / "mine.yml"
    mine.write_text(f"caption: {{captioner: {name}}}")
    return captioner_spec(load(CONF / "base.yml", CONF / "laptop.yml", mine).caption)


@pytest.fixture
def served(tmp_path: Path) -> EndpointCaptionerSpec:
    spec = named("miniature_served", tmp_path)
    assert isinstance(spec, EndpointCaptionerSpec)
    return spec


def images(count: int) -> list[dict[str, object]]:
    return [{"uid": f"{n:032x}", "bytes": render_bytes(draw_scene(HELD_OUT[n]))} for n in range(count)]


def captions(spec: AnyCaptionerSpec, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    parts = [pa.RecordBatch.from_pylist(rows)]
    answers = caption_partition(parts, spec=spec, device=lambda: "cpu", key="one")
    return sorted((row for batch in answers for row in batch.to_pylist()), key=lambda row: row["uid"])


@pytest.fixture(scope="module")
def _own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("servers")))
        yield


@pytest.mark.server
@pytest.mark.usefixtures("_own_servers")
def test_a_served_captioner_says_what_it_says_in_this_process(served, tmp_path):
    rows = images(6)
    rows[2] = {"uid": "b" * 32, "bytes": b"\xff\xd8\xff no picture"}
    here = captions(named("miniature", tmp_path), rows)
    assert [row["status"] for row in here] == ["ok", "ok", "ok", "ok", "ok", "undecodable"]
    assert captions(replace(served, batch_size=2), rows) == here


@pytest.mark.server
@pytest.mark.usefixtures("_own_servers")
def test_a_served_caption_cut_by_the_limit_says_so(served):
    (row,) = captions(replace(served, max_new_tokens=5), images(1))
    assert (row["finish_reason"], row["tokens"], row["status"]) == ("length", 5, "ok")


@pytest.mark.server
@pytest.mark.usefixtures("_own_servers")
def test_a_server_that_dies_between_two_partitions_is_not_noticed(served):
    before = captions(served, images(2))
    client = loaded(served, "cpu").client
    where = partial(served_url, served.endpoint.serve, model=client.spec.model, device="cpu")
    first = where()
    _kill_the_server_of(first)
    assert captions(served, images(2)) == before
    assert where() != first


def _kill_the_server_of(url: str) -> None:
    """SIGKILL to the process that listens on the url's port: the supervisor's child."""
    port = url.rpartition(":")[2].removesuffix("/v1")
    for path in Path(tempfile.gettempdir()).glob("recap_spark-*/*/state.json"):
        state = json.loads(path.read_text())
        if state["port"] == port:
            children = Path(f"/proc/{state['pid']}/task/{state['pid']}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)


def test_a_picture_travels_as_the_pixels_that_the_vision_tower_sees():
    picture = Image.effect_noise((40, 60), 60).convert("RGB")
    url = data_url(picture, PictureRule(side=64, format="png", jpeg_quality=95))
    kind, _, body = url.partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(body))) as sent:
        pixels = to_pixels(sent.convert("RGB"), side=64, fill=OPENAI_FILL)
    assert kind == "data:image/png"
    assert pixels.equal(to_pixels(picture, side=64, fill=OPENAI_FILL))
    smaller = data_url(picture, PictureRule(side=64, format="jpeg", jpeg_quality=50))
    assert smaller.startswith("data:image/jpeg;base64,")
    assert len(smaller) < len(url)


def test_where_a_server_stands_and_how_it_is_asked_make_no_other_captioner(served):
    elsewhere = replace(served.endpoint, concurrency=9, attempts=9, timeout_s=9.0, api_key_env="KEY")
    assert describe_endpoint(replace(served, endpoint=elsewhere)) == describe_endpoint(served)


def test_what_changes_the_words_makes_another_captioner(served):
    warmer = replace(served.endpoint, temperature=1.0)
    coarser = replace(served.endpoint, picture=PictureRule(side=64, format="jpeg", jpeg_quality=95))
    keys = {
        describe_endpoint(spec)["captioner"]
        for spec in (
            served,
            replace(served, prompt="What is this?"),
            replace(served, endpoint=warmer),
            replace(served, endpoint=coarser),
        )
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"serve": None}, "want either base_url or serve, found neither"),
        ({"base_url": "http://h/v1"}, "want either base_url or serve, found both"),
        ({"base_url": "https://me:canary@h/v1", "serve": None}, "want no user and password in it"),
        ({"api_key": "canary"}, "Unexpected keyword argument"),
        ({"concurrency": 0}, "concurrency: want at least 1, found 0"),
    ],
)
def test_an_endpoint_that_contradicts_itself_or_carries_a_key_is_refused(served, changed, said):
    values = json.dumps(asdict(served.endpoint) | changed)
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Endpoint).validate_json(values)


def test_a_captioner_s_kind_is_told_by_its_engine(tmp_path):
    kinds = {name: type(named(name, tmp_path)) for name in ("miniature", "miniature_served", "vllm")}
    assert kinds == {
        "miniature": CaptionerSpec,
        "miniature_served": EndpointCaptionerSpec,
        "vllm": EndpointCaptionerSpec,
    }
