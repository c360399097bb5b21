"""The miniature captioner's slot engine, and what transformers' generate says in its place"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from laptop import captioner

from recap_spark.models.llava.engine import EngineLimits, SlotEngine
from recap_spark.models.llava.generation import Generated, generate_greedily
from recap_spark.models.llava.scheduler import Picture
from recap_spark.models.pixels import normalise
from recap_spark.workers.captioning.captioner import Captioner

SPEC = captioner(captioner__engine="generate", batch_size=24, slots=8, prefill_batch=3)
LONGEST = SPEC.captioner.max_new_tokens


def by_generate(loaded: Captioner, pixels: torch.Tensor, **changed: Any) -> list[Generated]:
    limits = {"max_new_tokens": LONGEST, "stop_ids": loaded.stop_ids} | changed
    normal = normalise(pixels, mean=loaded.mean, std=loaded.std)
    return generate_greedily(loaded.model, normal, loaded.prompt_ids, **limits)


def engine(loaded: Captioner, *, stop_ids: frozenset[int] | None = None, **changed: Any) -> SlotEngine:
    limits = {
        "max_new_tokens": LONGEST,
        "slots": SPEC.settings.slots,
        "prefill_batch": SPEC.settings.prefill_batch,
        "memory_bytes": None,
        "float8_linears": False,
    }
    return SlotEngine(
        loaded.model,
        loaded.prompt_ids,
        stop_ids=loaded.stop_ids if stop_ids is None else stop_ids,
        mean=loaded.mean,
        std=loaded.std,
        limits=EngineLimits(**(limits | changed)),
    )


def pictures(pixels: torch.Tensor, *, longest: int = LONGEST) -> list[Picture[int]]:
    return [Picture(number, one, longest) for number, one in enumerate(pixels)]


def in_order(answers: Iterable[tuple[int, Generated]]) -> list[Generated]:
    numbered = sorted(answers, key=lambda answer: answer[0])
    assert [number for number, _ in numbered] == list(range(len(numbered)))
    return [caption for _, caption in numbered]
