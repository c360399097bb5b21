"""A folder → a CLIP without its weights, and what words and pictures are made ready by"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recap_spark.errors import WeightsError
from recap_spark.workers.model_types import model_type, opened_as

if TYPE_CHECKING:  # the driver describes a scorer without torch; only workers load one
    from transformers import CLIPModel

# Of config.json files from before transformers' PR #24773, whatever the end of their texts is: transformers
# then takes the largest id of a text for its end.
_LEGACY_END = 2


@dataclass(frozen=True)
class ClipInputs:
    """Tokenizer and pixel rules of a CLIP: its pictures' `side` in pixels, its `longest_text` in tokens."""

    tokenizer: Any  # transformers' tokenizers share no one type
    side: int
    longest_text: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def open_clip(folder: Path) -> ClipInputs:
    """A CLIP in Hugging Face's layout, safetensors only; none of its weights is read.

    Raises WeightsError where a tensor's name or shape does not fit the configuration, for which transformers
    would draw weights at random, or the tokenizer does not fit the model.
    """
    from recap_spark.models.tensor_files import COMPUTED, check_fit, tensors_in

    model_type(folder, wanted=("clip",))
    with opened_as(folder, "a CLIP in Hugging Face's layout"):
        model = _unfilled(folder)
        config: Any = model.config
        inputs = _inputs(folder, config)
        tensors = tensors_in(folder, whole="model.safetensors")
        stored = {name: one for name, one in tensors.items() if not name.endswith(COMPUTED)}
        check_fit({name: tuple(one.shape) for name, one in model.named_parameters()}, stored)
        _check_tokens(folder, inputs, config.text_config)
    return inputs


def tokenise(inputs: ClipInputs, texts: list[str]) -> Any:
    """Texts as tokens, each cut or padded to the length that the model takes."""
    return inputs.tokenizer(
        texts, padding="max_length", truncation=True, max_length=inputs.longest_text, return_tensors="pt"
    )


def _unfilled(folder: Path) -> CLIPModel:
    import torch
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        return CLIPModel(CLIPConfig.from_pretrained(folder))


def _inputs(folder: Path, config: Any) -> ClipInputs:
    from transformers import AutoImageProcessor, AutoTokenizer

    images = AutoImageProcessor.from_pretrained(folder)
    return ClipInputs(
        tokenizer=AutoTokenizer.from_pretrained(folder),
        side=config.vision_config.image_size,
        longest_text=config.text_config.max_position_embeddings,
        mean=tuple(images.image_mean),
        std=tuple(images.image_std),
    )


def _check_tokens(folder: Path, inputs: ClipInputs, config: Any) -> None:
    largest = max(inputs.tokenizer.get_vocab().values(), default=0)
    if largest >= config.vocab_size:
        raise WeightsError(f"{folder}: want token ids below {config.vocab_size}, found {largest}")
    with opened_as(folder, "a tokenizer that pads"):  # not all have a token for it
        ids = tokenise(inputs, ["a"]).input_ids[0].tolist()
    end = inputs.tokenizer.eos_token_id
    if config.eos_token_id == _LEGACY_END:
        if max(ids) != end:
            raise WeightsError(
                f"{folder}: want texts to end in their largest token, for eos_token_id {_LEGACY_END}, "
                f"found end {end} and largest {max(ids)}"
            )
    elif config.eos_token_id not in ids:
        raise WeightsError(
            f"{folder}: want texts to end in token {config.eos_token_id}, found none in {set(ids)}"
        )
