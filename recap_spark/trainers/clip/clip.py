"""pictures + texts → CLIP"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPModel, PreTrainedTokenizerBase

from recap_spark.models.pixels import OPENAI_MEAN, OPENAI_STD, normalise
from recap_spark.trainers.optimisation import Optimisation, optimise

Pair = tuple[Tensor, str]
"""A picture as uint8 [3, S, S] (models.pixels), and its text."""

LARGEST_LOGIT_SCALE = math.log(100)  # CLIP, section 2.5: above it training becomes unstable

# b batch, d embedding, s side


def train_clip(
    pairs: Iterable[Pair], *, model: CLIPModel, tokenizer: PreTrainedTokenizerBase, settings: Optimisation
) -> list[float]:
    """Train both towers in place and answer with the loss of each step.

    Raises InputError when the pairs end before the last step.
    """

    def loss_of(batch: list[Pair]) -> Tensor:
        return _pair_loss(model, tokenizer, batch)

    def clamp_temperature() -> None:
        with torch.no_grad():
            model.logit_scale.clamp_(0, LARGEST_LOGIT_SCALE)

    model.train()
    return optimise(
        "clip",
        pairs,
        model=model,
        groups=_decayed_apart(model, decay=settings.weight_decay),
        loss_of=loss_of,
        after_step=clamp_temperature,
        settings=settings,
    )


def contrastive_loss(image_bd: Tensor, text_bd: Tensor, *, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE (CLIP, figure 3): each picture's own text against the batch's, and the reverse."""
    logits_bb = logit_scale.exp() * normalize(image_bd, dim=-1) @ normalize(text_bd, dim=-1).T
    own_b = torch.arange(len(logits_bb), device=logits_bb.device)
    return (cross_entropy(logits_bb, own_b) + cross_entropy(logits_bb.T, own_b)) / 2


def _pair_loss(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, batch: list[Pair]) -> Tensor:
    device = model.device
    longest = model.text_model.embeddings.position_embedding.num_embeddings
    texts = [text for _, text in batch]
    words = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(
        device
    )
    pixels_b3ss = torch.stack([pixels for pixels, _ in batch]).to(device)
    image_bd = model.get_image_features(
        pixel_values=normalise(pixels_b3ss, mean=OPENAI_MEAN, std=OPENAI_STD)
    ).pooler_output
    text_bd = model.get_text_features(**words).pooler_output
    with torch.autocast(device.type, enabled=False):  # a product of features in bfloat16 tells few apart
        return contrastive_loss(image_bd.float(), text_bd.float(), logit_scale=model.logit_scale)


def _decayed_apart(model: CLIPModel, *, decay: float) -> list[dict[str, Any]]:
    # Gains, biases and the temperature have no scale to shrink towards (open_clip's grouping).
    parts = [part for part in model.parameters() if part.requires_grad]
    return [
        {"params": [part for part in parts if part.ndim > 1], "weight_decay": decay},
        {"params": [part for part in parts if part.ndim <= 1], "weight_decay": 0.0},
    ]
