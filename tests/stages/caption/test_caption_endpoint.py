"""The caption stage, by a server that Spark's executor starts for itself."""

from pathlib import Path

import pytest
from laptop import laptop
from repository import CHAT_SERVER
from rich.console import Console

from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.stages.caption import caption
from recap_spark.tables import CAPTIONERS, CAPTIONS
from recap_spark.workers.captioning.supervisor import process


def served_by_a_stub() -> Settings:
    """A laptop's, whose captioner is served by a small server that answers with its own process id."""
    return laptop(
        caption__captioner="miniature_served",
        caption__captioner__endpoint__serve__command=["{python}", str(CHAT_SERVER), "{port}"],
        caption__work={"units": 1, "in_flight": 1, "tasks_per_unit": 4},
    )


@pytest.mark.spark
def test_all_tasks_of_an_executor_ask_the_one_server_that_its_jvm_owns(filled):
    settings = served_by_a_stub()
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
