"""The miniature captioner's slot engine, and what transformers' generate says in its place"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recap_spark.models.engine import EngineLimits, SlotEngine
from recap_spark.models.generation import Generated, generate_greedily
from recap_spark.models.occupancy import Picture
from recap_spark.models.pixels import normalise
from recap_spark.settings import load
from recap_spark.stages.caption import in_process_spec
from recap_spark.workers.captioner import Captioner
from recap_spark.workers.decode_limits import DecodeLimits

CONF = Path(__file__).parents[1] / "conf"
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
