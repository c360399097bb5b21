"""The caption stage, by a server that Spark's executor starts for itself."""

from dataclasses import replace
from pathlib import Path

import pytest
from repository import CHAT_SERVER, ROOT
from rich.console import Console

from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.progress import Progress
from recap_spark.settings.loading import load
from recap_spark.settings.schema import Settings
from recap_spark.stages.caption import caption
from recap_spark.tables import CAPTIONERS, CAPTIONS
from recap_spark.workers.captioning.supervisor import process


def served_by_a_stub(tmp_path: Path) -> Settings:
    """A laptop's, whose captioner is served by a small server that answers with its own process id."""
    mine = tmp_path / "mine.yml"
    mine.write_text(
        "caption: {captioner: miniature_served, work: {units: 1, in_flight: 1, tasks_per_unit: 4}}"
    )
    settings = load(*(ROOT / "conf" / name for name in ("base.yml", "laptop.yml")), mine)
    captioner = settings.caption.captioner
    command = ("{python}", str(CHAT_SERVER), "{port}")
    endpoint = replace(captioner.endpoint, serve=replace(captioner.endpoint.serve, command=command))
    changed = captioner.model_copy(update={"endpoint": endpoint})
    return settings.model_copy(update={"caption": settings.caption.model_copy(update={"captioner": changed})})


@pytest.mark.spark
def test_all_tasks_of_an_executor_ask_the_one_server_that_its_jvm_owns(filled, tmp_path):
    settings = served_by_a_stub(tmp_path)
    pictures = [{"uid": f"{n:032x}", "bytes": render_bytes(draw_scene(HELD_OUT[n]))} for n in range(12)]
    lake = filled(images=[*pictures, {"uid": "f" * 32, "bytes": b"no picture"}])

    assert caption.run(lake, settings, Progress(Console(stderr=True))) == 13

    rows = lake.read(CAPTIONS).collect()
    assert [row.status for row in rows if row.uid == "f" * 32] == ["undecodable"]
    assert [row.status for row in rows].count("ok") == 12
    (server,) = {row.caption for row in rows if row.status == "ok"}
    supervisor = process(server)["parent"]
    owner = Path(f"/proc/{supervisor}/cmdline").read_text().split("\0")[3]
    assert process(owner)["name"] == "java"
    (made_by,) = lake.read(CAPTIONERS).collect()
    assert made_by.model == "miniature:captioner"
    assert '"engine": "endpoint"' in made_by.decoding
