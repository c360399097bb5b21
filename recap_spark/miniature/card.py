"""how the runs went + held-out scenes → weights/CARD.md"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from recap_spark.miniature.quality import caption_scenes, measure_captions, measure_clip, report
from recap_spark.miniature.world import HELD_OUT, draw_scene

SCENES = 500  # held-out ones: a share of 97 % of their statements is known to within 0.5 %

_HEADING = """\
# The miniature's models

A CLIP, and a LLaVA on its frozen vision tower, for demos and tests: they know shapes, colours, counts,
sizes, corners and backgrounds, and nothing of the world. Made by `python -m recap_spark.miniature.build`
from rendered scenes of the training split alone; the same command wrote this card.

| stage | trains | steps | batch | last loss | minutes |
| --- | --- | --- | --- | --- | --- |
"""


def write_card(folder: Path) -> None:
    """CARD.md beside the weights: what they were made of, and what they are worth on held-out scenes."""
    clip = json.loads((folder / "clip" / "run.json").read_text())
    captioner = json.loads((folder / "captioner" / "run.json").read_text())
    stages = [*clip["stages"], *captioner["stages"]]
    minutes = sum(stage["seconds"] for stage in stages) / 60
    version = torch.__version__.split("+")[0]
    text = _HEADING + "".join(map(_stage_line, stages))
    text += (
        f"\nSeed {clip['seed']}, {minutes:.1f} minutes of training on {torch.get_num_threads()} CPU threads, "
    )
    text += f"torch {version}. Weights are stored in float16 and load as float32.\n\n"
    text += "".join(_size_line(folder / part) for part in ("clip", "captioner"))
    text += "\nOn held-out scenes:\n\n```\n" + "\n".join(_measured(folder)) + "\n```\n"
    (folder / "CARD.md").write_text(text)


def _measured(folder: Path) -> list[str]:
    scenes = [draw_scene(number) for number in HELD_OUT[:SCENES]]
    captions = caption_scenes(scenes, folder=folder / "captioner")
    return report(measure_captions(captions, scenes=scenes), measure_clip(scenes, folder=folder / "clip"))


def _stage_line(stage: dict[str, Any]) -> str:
    what = f"| {stage['stage']} | {stage['trains'].replace('_', ' ')} "
    how_much = f"| {stage['steps']} | {stage['batch_size']} "
    return what + how_much + f"| {stage['last_loss']:.3f} | {stage['seconds'] / 60:.1f} |\n"


def _size_line(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.iterdir())
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return f"- `{folder.name}`: {size / 1e6:.2f} MB, {parameters:,} parameters\n"
