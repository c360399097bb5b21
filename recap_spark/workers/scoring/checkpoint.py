"""A folder → a CLIP without its weights, and what words and pictures are made ready by"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recap_spark.errors import WeightsError

if TYPE_CHECKING:  # the driver describes a scorer without torch; only workers load one
    from transformers import CLIPModel

_LEGACY_END = 2  # of configurations that say no token: transformers then takes the largest id for the end


@dataclass(frozen=True)
class Opened:
    """All of a CLIP but its weights."""

    tokenizer: Any  # transformers' tokenizers share no one type
    side: int
    longest_text: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def open_clip(folder: Path) -> Opened:
    """A CLIP in Hugging Face's layout, safetensors only; none of its weights is read.

    Raises WeightsError where a tensor's name or shape does not fit the configuration, for which transformers
    would draw weights at random, or the tokenizer does not fit the model.
    """
    from transformers import AutoImageProcessor, AutoTokenizer

    from recap_spark.models.tensor_files import COMPUTED, check_fit, tensors_in

    try:
        model = _unfilled(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        images = AutoImageProcessor.from_pretrained(folder)
    # A file that is not there, or is no JSON, or says what no model, tokenizer or image processor can be.
    except (OSError, ValueError, TypeError, KeyError) as error:
        found = f"{type(error).__name__}: {error!s:.200}"
        raise WeightsError(f"{folder}: want a CLIP in Hugging Face's layout, found {found}") from error
    tensors = tensors_in(folder, whole="model.safetensors")
    stored = {name: one for name, one in tensors.items() if not name.endswith(COMPUTED)}
    check_fit({name: tuple(one.shape) for name, one in model.named_parameters()}, stored)
    config: Any = model.config
    opened = Opened(
        tokenizer=tokenizer,
        side=config.vision_config.image_size,
        longest_text=config.text_config.max_position_embeddings,
        mean=tuple(images.image_mean),
        std=tuple(images.image_std),
    )
    _check_words(folder, opened, config.text_config)
    return opened


def words(opened: Opened, texts: list[str]) -> Any:
    """Texts as tokens, each cut or padded to the length that the model takes."""
    return opened.tokenizer(
        texts, padding="max_length", truncation=True, max_length=opened.longest_text, return_tensors="pt"
    )


def _unfilled(folder: Path) -> CLIPModel:
    import torch
    from transformers import CLIPConfig, CLIPModel

    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind != "clip":
        raise WeightsError(f"{folder / 'config.json'}: want model_type clip, found {kind!r}")
    with torch.device("meta"):
        return CLIPModel(CLIPConfig.from_pretrained(folder))


def _check_words(folder: Path, opened: Opened, config: Any) -> None:
    try:
        ids = words(opened, ["a"]).input_ids[0].tolist()
    except ValueError as error:  # no token to pad with
        raise WeightsError(f"{folder}: want a tokenizer that pads, found: {error!s:.200}") from error
    if max(ids) >= config.vocab_size:
        raise WeightsError(
            f"{folder}: want a tokenizer of {config.vocab_size} tokens, found token {max(ids)}"
        )
    if config.eos_token_id not in (_LEGACY_END, *ids):
        raise WeightsError(
            f"{folder}: want texts to end in token {config.eos_token_id}, found none in {set(ids)}"
        )
