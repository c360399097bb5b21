"""pictures + texts → CLIP"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import CLIPModel, PreTrainedTokenizerBase

from recap_spark.errors import InputError
from recap_spark.models.pixels import OPENAI_MEAN, OPENAI_STD, normalise
from recap_spark.trainers.schedules import warmup_then_cosine

log = logging.getLogger(__name__)

Pair = tuple[Tensor, str]
"""A picture as uint8 [3, S, S] (models.pixels), and its text."""

LARGEST_LOGIT_SCALE = math.log(100)  # CLIP, section 2.5: above it training becomes unstable

# b batch, d embedding, s side


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """One contrastive run."""

    steps: int
    batch_size: int
    peak_rate: float
    warmup_steps: int
    weight_decay: float
    beta2: float
    clip_norm: float
    precision: torch.dtype  # of the forward pass; weights and optimiser stay float32
    log_every: int  # steps


def train_clip(
    pairs: Iterable[Pair], *, model: CLIPModel, tokenizer: PreTrainedTokenizerBase, settings: ClipSettings
) -> list[float]:
    """Train both towers in place and answer with the loss of each step.

    Raises InputError when the pairs end before the last step.
    """
    # 1. What trains, and how fast
    optimiser = AdamW(
        _decayed_apart(model, decay=settings.weight_decay), lr=settings.peak_rate, betas=(0.9, settings.beta2)
    )
    schedule = LambdaLR(
        optimiser, warmup_then_cosine(steps=settings.steps, warmup_steps=settings.warmup_steps)
    )
    model.train()

    # 2. The loop
    losses: list[float] = []
    for pixels_b3ss, texts in _batches(pairs, settings=settings):
        loss = _pair_loss(
            model, tokenizer, pixels_b3ss=pixels_b3ss, texts=texts, precision=settings.precision
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, LARGEST_LOGIT_SCALE)
        losses.append(loss.item())
        if len(losses) % settings.log_every == 0:
            log.info("clip step %d of %d: loss %.4f", len(losses), settings.steps, losses[-1])

    # 3. A run that starved must not pass for one that finished
    if len(losses) < settings.steps:
        raise InputError(f"clip: pairs ended after {len(losses)} of {settings.steps} steps")
    model.eval()
    return losses


def contrastive_loss(image_bd: Tensor, text_bd: Tensor, *, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE (CLIP, figure 3): each picture's own text against the batch's, and the reverse."""
    logits_bb = logit_scale.exp() * normalize(image_bd, dim=-1) @ normalize(text_bd, dim=-1).T
    own_b = torch.arange(len(logits_bb), device=logits_bb.device)
    return (cross_entropy(logits_bb, own_b) + cross_entropy(logits_bb.T, own_b)) / 2


def _pair_loss(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    pixels_b3ss: Tensor,
    texts: list[str],
    precision: torch.dtype,
) -> Tensor:
    device = model.device
    longest = model.text_model.embeddings.position_embedding.num_embeddings
    words = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(
        device
    )
    floats_b3ss = normalise(pixels_b3ss.to(device), mean=OPENAI_MEAN, std=OPENAI_STD)
    with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        image_bd = model.get_image_features(pixel_values=floats_b3ss).pooler_output
        text_bd = model.get_text_features(**words).pooler_output
    return contrastive_loss(image_bd.float(), text_bd.float(), logit_scale=model.logit_scale)


def _decayed_apart(model: CLIPModel, *, decay: float) -> list[dict[str, object]]:
    # Gains, biases and the temperature have no scale to shrink towards (open_clip's grouping).
    parts = [part for part in model.parameters() if part.requires_grad]
    return [
        {"params": [part for part in parts if part.ndim > 1], "weight_decay": decay},
        {"params": [part for part in parts if part.ndim <= 1], "weight_decay": 0.0},
    ]


def _batches(pairs: Iterable[Pair], *, settings: ClipSettings) -> Iterator[tuple[Tensor, list[str]]]:
    supply = iter(pairs)
    for _ in range(settings.steps):
        batch = list(islice(supply, settings.batch_size))
        if len(batch) < settings.batch_size:
            return
        yield torch.stack([pixels for pixels, _ in batch]), [text for _, text in batch]
