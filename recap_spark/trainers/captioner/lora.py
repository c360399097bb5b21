"""Low-rank updates of the decoder's linear layers (LoRA, arXiv 2106.09685): put in, and merged again"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from recap_spark.errors import PlatformError
from recap_spark.settings.captioner_run import LoraSettings

_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def add_lora(model: LlavaForConditionalGeneration, settings: LoraSettings) -> None:
    """Freeze the decoder and open updates of rank r beside each of its linear layers, the head excepted.

    LLaVA-1.5 takes the same layers (train.py, `find_all_linear_names`). Raises PlatformError without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise PlatformError("lora: want peft, found none: install the project's extra `train`") from error
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        bias="none",
    )
    inject_adapter_in_model(config, model.model.language_model)


def merged(tensors: Iterable[tuple[str, Tensor]], settings: LoraSettings) -> dict[str, Tensor]:
    """Every weight under the name it had before `add_lora`: W + alpha / r · B A."""
    held = dict(tensors)
    plain: dict[str, Tensor] = {}
    for name, weights in held.items():
        if name.endswith((_A, _B)):
            continue
        stem, base, leaf = name.partition(_BASE)
        if base and leaf == "weight":
            update = held[stem + _B].float() @ held[stem + _A].float()
            weights = torch.add(weights.float(), update, alpha=settings.alpha / settings.rank)
        plain[name.replace(_BASE, ".")] = weights
    return plain
