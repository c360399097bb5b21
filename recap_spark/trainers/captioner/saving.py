"""A trained run → a folder in Hugging Face's LLaVA layout"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from recap_spark.settings.captioner_run import CaptionerRun
from recap_spark.trainers.captioner.lora import merged
from recap_spark.trainers.distributed import Place, whole


def save_captioner(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, *, run: CaptionerRun, place: Place
) -> None:
    """Write `run.folder`/captioner: merged weights in `saved_dtype`, processor, and the run's settings.

    The first process gathers the weights on its CPU: four bytes for each parameter of the model.
    """
    gathered = {}
    for name, weights in model.state_dict().items():
        full = whole(weights)
        if place.first:
            gathered[name] = full.detach().cpu()
    if place.first:
        _write(gathered, model, processor, run)
    place.meet()


def _write(
    gathered: dict[str, torch.Tensor],
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    run: CaptionerRun,
) -> None:
    weights = merged(gathered.items(), run.lora) if run.lora else gathered
    dtype = getattr(torch, run.saved_dtype)
    # A model of no weights takes these as they are, and knows the layout's names for them.
    with torch.device("meta"):
        shell = LlavaForConditionalGeneration(model.config)
    shell.load_state_dict({name: held.to(dtype) for name, held in weights.items()}, assign=True)
    shell.config.dtype = dtype
    shell.generation_config = model.generation_config
    final = Path(run.folder) / "captioner"
    unfinished = final.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shell.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    (unfinished / "run.json").write_text(run.model_dump_json(indent=1))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(unfinished, final)
