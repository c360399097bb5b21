"""pictures + captions → LLaVA, one stage at a time"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from recap_spark.errors import InputError
from recap_spark.models.pixels import OPENAI_MEAN, OPENAI_STD, normalise
from recap_spark.settings.prompt import PROMPT
from recap_spark.trainers.captioner.conversations import Example, collate
from recap_spark.trainers.optimisation import Optimisation, optimise

Pair = tuple[Tensor, str]
"""A picture as uint8 [3, S, S] (models.pixels), and its caption."""

# b batch, t tokens, s side


class Trains(StrEnum):
    """What a stage may change. The vision tower never is (Recap-DataComp-1B, section 3; LLaVA-1.5)."""

    PROJECTOR = "projector"
    PROJECTOR_AND_DECODER = "projector_and_decoder"
    DECODER = "decoder"  # a decoder with no language yet; one that comes pretrained needs no such stage


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: LLaVA-1.5 has two (projector, then both), Recap's captioner a third on clean pairs."""

    name: str
    trains: Trains
    optimisation: Optimisation


def train_stage(
    pairs: Iterable[Pair], *, model: LlavaForConditionalGeneration, processor: LlavaProcessor, stage: Stage
) -> list[float]:
    """Train one stage in place and answer with the loss of each step.

    Raises InputError when the pairs end before the last step.
    """
    prompt = Prompt.of(model, processor)

    def loss_of(batch: list[Pair]) -> Tensor:
        inputs = answer_batch(batch, prompt=prompt, processor=processor, device=model.device)
        loss: Tensor = model(**inputs, use_cache=False).loss
        return loss

    parts = open_parts(model, trains=stage.trains)
    model.train()
    model.model.vision_tower.eval()
    return optimise(
        stage.name,
        pairs,
        model=model,
        groups=[{"params": parts}],
        loss_of=loss_of,
        after_step=lambda: None,
        settings=stage.optimisation,
    )


def open_parts(model: LlavaForConditionalGeneration, *, trains: Trains) -> list[nn.Parameter]:
    """Freeze all but what the stage trains; answer with the parameters left open."""
    projector: list[nn.Module] = [model.model.multi_modal_projector]
    decoder: list[nn.Module] = [model.model.language_model, model.lm_head]
    opened = {
        Trains.PROJECTOR: projector,
        Trains.PROJECTOR_AND_DECODER: projector + decoder,
        Trains.DECODER: decoder,
    }[trains]
    model.requires_grad_(False)
    for module in opened:
        module.requires_grad_(True)
    return [part for part in model.parameters() if part.requires_grad]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The turn before every caption, and what ends a caption: both from the processor's chat template."""

    ids: tuple[int, ...]  # one `<image>` for each patch
    ending: str

    @classmethod
    def of(cls, model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> Prompt:
        """Raises InputError when the template does not put the caption right after the generation prompt."""
        asked: list[Any] = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}
        ]
        answered = [*asked, {"role": "assistant", "content": [{"type": "text", "text": "\N{BLACK STAR}"}]}]
        before = processor.apply_chat_template(asked, add_generation_prompt=True)
        whole = processor.apply_chat_template(answered)
        if not whole.startswith(before + "\N{BLACK STAR}"):
            raise InputError(f"chat template: want the caption right after {before!r}, found {whole!r}")
        patches = processor.image_token * model.config.image_seq_length
        # The template writes its own beginning of text; the tokenizer would add a second.
        ids = processor.tokenizer(
            before.replace(processor.image_token, patches), add_special_tokens=False
        ).input_ids
        return cls(ids=tuple(ids), ending=whole.removeprefix(before + "\N{BLACK STAR}"))


def answer_batch(
    batch: list[Pair], *, prompt: Prompt, processor: LlavaProcessor, device: torch.device
) -> dict[str, Tensor]:
    """Pairs → the model's inputs, padded on the right; labels are the caption and its ending, nothing else.

    input_ids, attention_mask, labels: int64 [B, T]; pixel_values: float32 [B, 3, S, S].
    """
    texts = [caption + prompt.ending for _, caption in batch]
    answers = processor.tokenizer(texts, add_special_tokens=False).input_ids
    asked = [False] * len(prompt.ids)
    examples = [
        Example([*prompt.ids, *answer], [*asked, *[True] * len(answer)], pictured=True) for answer in answers
    ]
    inputs = collate(examples, pad_id=processor.tokenizer.pad_token_id)
    pixels_b3ss = torch.stack([pixels for pixels, _ in batch]).to(device)
    return {name: values.to(device) for name, values in inputs.items()} | {
        "pixel_values": normalise(pixels_b3ss, mean=OPENAI_MEAN, std=OPENAI_STD)
    }
