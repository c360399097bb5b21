"""pairs → losses: AdamW over a warm-up and a cosine, for runs of one process that fit in memory"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from recap_spark.errors import InputError
from recap_spark.trainers.schedules import warmup_then_cosine

log = logging.getLogger(__name__)

P = TypeVar("P")


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How one run descends."""

    steps: int
    batch_size: int
    peak_rate: float
    warmup_steps: int
    weight_decay: float
    beta2: float
    clip_norm: float
    precision: torch.dtype  # of the forward pass; weights and optimiser keep the model's own
    log_every: int  # steps


def optimise(
    name: str,
    pairs: Iterable[P],
    *,
    model: nn.Module,
    groups: list[dict[str, Any]],
    loss_of: Callable[[list[P]], Tensor],
    after_step: Callable[[], None],
    settings: Optimisation,
) -> list[float]:
    """Train `groups`, parameters of the model as AdamW takes them, and answer with the loss of each step.

    `loss_of` sees a batch in the precision asked for. Raises InputError when the pairs end before the last
    step: a run that starved must not pass for one that finished.
    """
    # 1. What trains, and how fast
    optimiser = AdamW(
        groups, lr=settings.peak_rate, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay
    )
    rise_and_fall = warmup_then_cosine(steps=settings.steps, warmup_steps=settings.warmup_steps)
    schedule = LambdaLR(optimiser, rise_and_fall)
    trained = [part for group in groups for part in group["params"]]
    device = trained[0].device.type

    # 2. The loop
    losses: list[float] = []
    for batch in _batches(pairs, settings=settings):
        with torch.autocast(device, dtype=settings.precision, enabled=settings.precision != torch.float32):
            loss = loss_of(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        optimiser.step()
        schedule.step()
        after_step()
        losses.append(loss.item())
        if len(losses) % settings.log_every == 0:
            log.info("%s step %d of %d: loss %.4f", name, len(losses), settings.steps, losses[-1])

    # 3. Enough of them
    if len(losses) < settings.steps:
        raise InputError(f"{name}: pairs ended after {len(losses)} of {settings.steps} steps")
    model.eval()
    return losses


def _batches(pairs: Iterable[P], *, settings: Optimisation) -> Iterator[list[P]]:
    supply = iter(pairs)
    for _ in range(settings.steps):
        batch = list(islice(supply, settings.batch_size))
        if len(batch) < settings.batch_size:
            return
        yield batch
