"""The bundled captioner goes through every evaluation, from files and conf to measures that MLflow keeps."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from repository import CONF
from rich.console import Console

from recap_spark.errors import InputError
from recap_spark.evaluations.command import run_evaluation
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.settings.loading import load
from recap_spark.settings.schema import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A laptop's, with a tracking store of the test's own."""
    (tmp_path / "mine.yml").write_text(f"tracking: {{uri: 'sqlite:///{tmp_path}/mlflow.db'}}")
    return load(CONF / "base.yml", CONF / "laptop.yml", tmp_path / "mine.yml")


@pytest.fixture
def judge() -> Iterator[ThreadingHTTPServer]:
    """A judge that gives 0.5 to answers about an image, asked in plainer words the second time."""

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            self.server.prompts.append(prompt)
            text = "0.5" if prompt.endswith("from 0.0 to 1.0: ") else "half right"
            choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            data = json.dumps({"choices": [choice]}).encode()
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as server:
        server.prompts = []
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def evaluations(tmp_path: Path, judge_url: str = "http://127.0.0.1:9/v1") -> Path:
    values = yaml.safe_load((CONF / "evaluations.yml").read_text())
    values["miniature"]["scenes"] = 2
    values["mmvet"]["judge"]["base_url"] = judge_url
    path = tmp_path / "evaluations.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def kept(benchmark: str, settings: Settings) -> dict[str, float]:
    mlflow.set_tracking_uri(settings.tracking.uri)
    (run,) = mlflow.search_runs(experiment_names=[settings.tracking.experiment], output_format="list")
    assert run.info.run_name == f"evaluate {benchmark}"
    return run.data.metrics


def test_the_miniature_s_truth_is_measured(settings, tmp_path):
    console = Console(record=True, width=120)
    run_evaluation("miniature", None, settings=settings, evaluations=evaluations(tmp_path), console=console)
    measured = kept("miniature", settings)
    assert measured["miniature.true.of"] > 0
    assert measured["miniature.true"] > 50
    assert "mentioned" in console.export_text()


def test_mmmu_is_measured_from_its_files(settings, tmp_path):
    image = {"bytes": render_bytes(draw_scene(HELD_OUT[0])), "path": "1.png"}
    row = {
        "id": "validation_Art_1",
        "question": "<image 1> Which?",
        "options": "['a', 'b']",
        "answer": "A",
        "question_type": "multiple-choice",
        "image_1": image,
        "image_2": None,
    }
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(name, kind if name.startswith("image") else pa.string()) for name in row])
    (tmp_path / "mmmu" / "Art").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist([row], schema=schema), tmp_path / "mmmu/Art/validation-00000-of-00001.parquet"
    )
    run_evaluation(
        "mmmu", tmp_path / "mmmu", settings=settings, evaluations=evaluations(tmp_path), console=Console()
    )
    measured = kept("mmmu", settings)
    assert measured["mmmu.all.of"] == measured["mmmu.Art.of"] == 1
    assert measured["mmmu.all"] in (0.0, 100.0)


def test_mm_vet_is_measured_by_a_judge_that_is_asked_again_where_it_gave_no_number(settings, tmp_path, judge):
    folder = tmp_path / "mmvet"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "v1_0.png").write_bytes(render_bytes(draw_scene(HELD_OUT[0])))
    entry = {"imagename": "v1_0.png", "question": "What is it?", "answer": "a", "capability": ["rec"]}
    (folder / "mm-vet.json").write_text(json.dumps({"v1_0": entry}))
    url = f"http://127.0.0.1:{judge.server_port}/v1"
    run_evaluation(
        "mmvet", folder, settings=settings, evaluations=evaluations(tmp_path, url), console=Console()
    )
    assert kept("mmvet", settings) == {"mmvet.all": 50, "mmvet.all.of": 1, "mmvet.rec": 50, "mmvet.rec.of": 1}
    assert len(judge.prompts) == 2
    assert "What is it? | a | " in judge.prompts[0]


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        ("vqa", "want mmmu, mmvet or miniature, found vqa"),
        ("mmmu", "want the folder of its files, found none"),
    ],
)
def test_a_benchmark_that_is_not_there_is_named(settings, tmp_path, benchmark, said):
    with pytest.raises(InputError, match=said):
        run_evaluation(
            benchmark, None, settings=settings, evaluations=evaluations(tmp_path), console=Console()
        )
