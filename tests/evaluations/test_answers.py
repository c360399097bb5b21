"""A captioner answers a benchmark's questions by the engine that makes its captions."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from laptop import captioner, endpoint, with_captioner
from repository import CHAT_SERVER

from recap_spark.errors import InputError
from recap_spark.evaluations.answers import Question, answers
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.workers.captioning.endpoint import EndpointCaptionerSpec
from recap_spark.workers.captioning.engines import caption_partition
from recap_spark.workers.captioning.journal import Journal


@pytest.fixture
def at_a_stub() -> Iterator[EndpointCaptionerSpec]:
    spec = endpoint()
    command = [sys.executable, str(CHAT_SERVER), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        yield with_captioner(spec, endpoint=replace(spec.endpoint, base_url=url, serve=None))
        server.kill()


def pictures(count: int) -> list[bytes]:
    return [render_bytes(draw_scene(HELD_OUT[number])) for number in range(count)]


@pytest.mark.parametrize("engine", ["slots", "generate"])
def test_a_question_of_the_captioner_s_own_prompt_is_answered_by_its_caption(tmp_path, engine):
    spec = captioner(captioner__engine=engine, slots=2)
    some = pictures(3)
    rows = [pa.RecordBatch.from_pylist([{"uid": str(n), "bytes": one} for n, one in enumerate(some)])]
    parts = caption_partition(
        rows, spec=spec, device=lambda: "cpu", key="one", journal=Journal(str(tmp_path))
    )
    captions = {row["uid"]: row["caption"] for part in parts for row in part.to_pylist()}
    own = spec.captioner.prompt
    prompts = (own, "What colour is the largest thing in this picture?", own)
    asked = [Question(str(n), one, prompt) for n, (one, prompt) in enumerate(zip(some, prompts, strict=True))]
    first, other, last = answers(spec, asked, device="cpu")
    assert (first, last) == (captions["0"], captions["2"])
    assert other


def test_questions_are_put_to_a_server_as_well(at_a_stub):
    asked = [Question(str(n), one, f"What is {n}?") for n, one in enumerate(pictures(3))]
    assert len([int(said) for said in answers(at_a_stub, asked, device="cpu")]) == 3


def test_a_benchmark_with_a_damaged_picture_is_none(at_a_stub):
    damaged = [Question("v1_7", b"no picture", "What is it?")]
    for spec in (at_a_stub, captioner()):
        with pytest.raises(InputError, match="v1_7: want a picture that decodes"):
            list(answers(spec, damaged, device="cpu"))
