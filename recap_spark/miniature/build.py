"""rendered training scenes → CLIP → captioner → recap_spark/miniature/weights

`python -m recap_spark.miniature.build [clip] [captioner] [polish] [card]`, all four when none is named.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPModel,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from recap_spark.miniature.card import write_card
from recap_spark.miniature.language import alt_text, describe
from recap_spark.miniature.models import (
    SIDE,
    captioner_processor,
    clip_processor,
    new_captioner,
    new_clip,
    train_words,
)
from recap_spark.miniature.quality import WEIGHTS
from recap_spark.miniature.render import render_scene
from recap_spark.miniature.world import TRAIN, Scene, draw_scene, reshape_scene, vary_scene
from recap_spark.models.pixels import OPENAI_FILL, to_pixels
from recap_spark.settings.prompt import PROMPT
from recap_spark.trainers.captioner.captioner import Stage, Trains, train_stage
from recap_spark.trainers.clip.clip import train_clip
from recap_spark.trainers.optimisation import Optimisation

log = logging.getLogger(__name__)

_Step = tuple[Stage, Callable[[], Iterator[tuple[Tensor, str]]]]

SEED = 0
# torch shares a sum out among its threads: from one seed, another number of them makes other weights than
# those that CARD.md's figures are of.
THREADS = 2

CLIP_RUN = Optimisation(
    steps=450,
    batch_size=128,
    peak_rate=1e-3,
    warmup_steps=40,
    weight_decay=0.1,
    beta2=0.98,
    clip_norm=1.0,
    precision=torch.bfloat16,
    log_every=10,
)


def _stage(name: str, *, steps: int, trains: Trains, peak_rate: float) -> Stage:
    """A stage of the captioner's run: it warms up over a tenth of its steps."""
    descent = replace(
        CLIP_RUN,
        steps=steps,
        batch_size=64,
        peak_rate=peak_rate,
        warmup_steps=steps // 10,
        weight_decay=0.01,
    )
    return Stage(name=name, trains=trains, optimisation=descent)


def main() -> None:
    """Train what the arguments name, each part from its predecessor's saved files."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parts = sys.argv[1:] or ["clip", "captioner", "polish", "card"]
    torch.set_num_threads(THREADS)
    if "clip" in parts:
        build_clip(WEIGHTS / "clip")
    if "captioner" in parts:
        build_captioner(WEIGHTS / "captioner", clip=WEIGHTS / "clip")
    if "polish" in parts:
        polish_captioner(WEIGHTS / "captioner")
    if "card" in parts:
        write_card(WEIGHTS)


def build_clip(folder: Path) -> None:
    """Words, then both towers from nothing, on scenes and their near-doubles."""
    words = train_words(_corpus())
    processor = clip_processor(words)
    model = new_clip(words, seed=SEED)
    started = time.monotonic()
    losses = train_clip(contrastive_pairs(), model=model, tokenizer=processor.tokenizer, settings=CLIP_RUN)
    stage = {
        "stage": "CLIP",
        "trains": "both towers",
        "steps": len(losses),
        "batch_size": CLIP_RUN.batch_size,
        "last_loss": losses[-1],
        "seconds": time.monotonic() - started,
    }
    save(model, processor=processor, folder=folder, run={"seed": SEED, "stages": [stage]})


def build_captioner(folder: Path, *, clip: Path) -> None:
    """The stages in order, on the saved CLIP's frozen tower."""
    # The prompt stands before every caption, so its words are worth one token each.
    words = train_words(chain([PROMPT] * 5000, _corpus()))
    processor = captioner_processor(words)
    model = new_captioner(words, clip=CLIPModel.from_pretrained(clip, local_files_only=True), seed=SEED)
    stages = _train(model, processor, CAPTIONER_RUN)
    save(model, processor=processor, folder=folder, run={"seed": SEED, "stages": stages})


def polish_captioner(folder: Path) -> None:
    """Stage 3 once more, from the saved files on: shapes come last, and slowly."""
    run = json.loads((folder / "run.json").read_text())
    model = LlavaForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    processor = LlavaProcessor.from_pretrained(folder, local_files_only=True)
    run["stages"] += _train(model, processor, POLISH_RUN)
    save(model, processor=processor, folder=folder, run=run)


def _train(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, run: Sequence[_Step]
) -> list[dict[str, Any]]:
    stages = []
    for stage, pairs in run:
        started = time.monotonic()
        losses = train_stage(pairs(), model=model, processor=processor, stage=stage)
        stages.append(
            {
                "stage": stage.name,
                "trains": stage.trains,
                "steps": len(losses),
                "batch_size": stage.optimisation.batch_size,
                "last_loss": losses[-1],
                "seconds": time.monotonic() - started,
            }
        )
    return stages


def wordless_pairs() -> Iterator[tuple[Tensor, str]]:
    """Descriptions of pictures that are not shown: a decoder learns from them the language and no more."""
    blank = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    return ((blank, describe(draw_scene(number))) for number in TRAIN[300_000:400_000])


def mixed_pairs() -> Iterator[tuple[Tensor, str]]:
    """One in ten with its web text, as instruction data is not all clean."""
    for number in TRAIN[400_000:600_000]:
        scene = draw_scene(number)
        yield pixels_of(scene), alt_text(scene) if number % 10 == 0 else describe(scene)


def more_pairs() -> Iterator[tuple[Tensor, str]]:
    """Clean pairs that no earlier stage has seen."""
    return ((pixels_of(scene), describe(scene)) for scene in map(draw_scene, TRAIN[800_000:1_000_000]))


def last_pairs() -> Iterator[tuple[Tensor, str]]:
    """And still others."""
    return ((pixels_of(scene), describe(scene)) for scene in map(draw_scene, TRAIN[700_000:800_000]))


def clean_pairs() -> Iterator[tuple[Tensor, str]]:
    """Every picture with its own full description."""
    return ((pixels_of(scene), describe(scene)) for scene in map(draw_scene, TRAIN[600_000:700_000]))


def contrastive_pairs() -> Iterator[tuple[Tensor, str]]:
    """Most pairs in families of four that differ in one attribute, half of those in shape alone.

    Among random scenes colours and backgrounds tell most pictures apart, and the rest goes unlearned: shapes
    last of all, since a small circle and a small square share most of their pixels.
    """
    for number in TRAIN:
        scene = draw_scene(number)
        # An eighth with web text: short and noisy texts must not be foreign to the model that scores them.
        yield pixels_of(scene), alt_text(scene) if number % 10 in (1, 3) else describe(scene)
        nearby: tuple[Scene, ...] = ()
        if number % 5 == 0:
            nearby = tuple(vary_scene(scene, seed=seed) for seed in range(3))
        elif number % 5 == 2:
            nearby = reshape_scene(scene, seed=SEED)
        for near in nearby:
            yield pixels_of(near), describe(near)


def pixels_of(scene: Scene) -> Tensor:
    """uint8 [3, 64, 64], made exactly as at inference: rendered at full size, padded, resized."""
    return to_pixels(render_scene(scene), side=SIDE, fill=OPENAI_FILL)


def _corpus() -> Iterator[str]:
    for scene in map(draw_scene, TRAIN[:5000]):
        yield from (describe(scene), alt_text(scene))


def save(model: PreTrainedModel, *, processor: ProcessorMixin, folder: Path, run: dict[str, Any]) -> None:
    """Half-precision safetensors that load as float32, the processor's files, and how the run went."""
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    # Loading follows the configuration's type: the files stay small and a CPU computes in float32.
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"float16"', '"float32"'))
    (folder / "run.json").write_text(json.dumps(run, indent=1))


_ALL = Trains.PROJECTOR_AND_DECODER
CAPTIONER_RUN = (
    # LLaVA's decoder comes pretrained as a language model; this one has to be made so first.
    (_stage("words", trains=Trains.DECODER, steps=80, peak_rate=1.5e-3), wordless_pairs),
    (_stage("stage 1", trains=Trains.PROJECTOR, steps=60, peak_rate=1.5e-3), clean_pairs),
    (_stage("stage 2", trains=_ALL, steps=700, peak_rate=1.5e-3), mixed_pairs),
    (_stage("stage 3", trains=_ALL, steps=160, peak_rate=4e-4), clean_pairs),
)
POLISH_RUN = (
    (_stage("stage 3, polish", trains=_ALL, steps=650, peak_rate=1e-3), more_pairs),
    (_stage("stage 3, last polish", trains=_ALL, steps=260, peak_rate=8e-4), last_pairs),
)


if __name__ == "__main__":
    main()
