"""The miniature captioner's slot engine, and what transformers' generate says in its place"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from repository import CONF

from recap_spark.models.llava.engine import EngineLimits, SlotEngine
from recap_spark.models.llava.generation import Generated, generate_greedily
from recap_spark.models.llava.scheduler import Picture
from recap_spark.models.pixels import normalise
from recap_spark.settings.loading import load
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.workers.captioning.captioner import Captioner
from recap_spark.workers.captioning.engines import in_process_spec

SPEC = replace(
    in_process_spec(load(CONF / "base.yml", CONF / "laptop.yml").caption),
    engine="generate",
    batch_size=24,
    slots=8,
    prefill_batch=3,
    decode_threads=1,
    decode=DecodeLimits(largest_pixels=1_000_000, memory_bytes=256 << 20, cpu_s=20.0),
)


def by_generate(captioner: Captioner, pixels: torch.Tensor, **changed: Any) -> list[Generated]:
    limits = {"max_new_tokens": SPEC.max_new_tokens, "stop_ids": captioner.stop_ids} | changed
    normal = normalise(pixels, mean=captioner.mean, std=captioner.std)
    return generate_greedily(captioner.model, normal, captioner.prompt_ids, **limits)


def engine(captioner: Captioner, *, stop_ids: frozenset[int] | None = None, **changed: Any) -> SlotEngine:
    limits = {
        "max_new_tokens": SPEC.max_new_tokens,
        "slots": SPEC.slots,
        "prefill_batch": SPEC.prefill_batch,
        "memory_bytes": None,
        "float8_linears": False,
    }
    return SlotEngine(
        captioner.model,
        captioner.prompt_ids,
        stop_ids=captioner.stop_ids if stop_ids is None else stop_ids,
        mean=captioner.mean,
        std=captioner.std,
        limits=EngineLimits(**(limits | changed)),
    )


def pictures(pixels: torch.Tensor, *, longest: int = SPEC.max_new_tokens) -> list[Picture[int]]:
    return [Picture(number, one, longest) for number, one in enumerate(pixels)]


def in_order(answers: Iterable[tuple[int, Generated]]) -> list[Generated]:
    numbered = sorted(answers, key=lambda answer: answer[0])
    assert [number for number, _ in numbered] == list(range(len(numbered)))
    return [caption for _, caption in numbered]
