"""pixels → the decoder's view of them: CLIP's tower up to the layer LLaVA reads, then the projector"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recap_spark.errors import WeightsError

# b images, n patches, e the decoder's embedding


def check_vision(model: Any) -> None:
    """Raise WeightsError unless the model reads one layer of a CLIP tower, as LLaVA-1.5 does."""
    config = model.config
    if config.vision_config.model_type != "clip_vision_model" or not isinstance(
        config.vision_feature_layer, int
    ):
        raise WeightsError(
            "engine slots: want one layer of a CLIP vision tower, found "
            f"{config.vision_feature_layer} of {config.vision_config.model_type}: engine generate takes any"
        )


def image_embeds(model: Any, pixels: Tensor) -> Tensor:
    """Normalised pixels [b, 3, S, S] → [b, n, e].

    The layers above the one that is read (-2 in LLaVA-1.5, section 3.2 of its paper) are not computed.
    """
    tower, config = model.model.vision_tower, model.config
    layers = tower.encoder.layers
    read = config.vision_feature_layer
    hidden = tower.pre_layrnorm(tower.embeddings(pixels.to(tower.dtype)))
    for layer in layers[: read + len(layers) + 1 if read < 0 else read]:
        hidden = layer(hidden, None)
    if config.vision_feature_select_strategy == "default":
        hidden = hidden[:, 1:]  # without CLS
    embeds: Tensor = model.model.multi_modal_projector(hidden)
    return embeds


def split_prompt(model: Any, prompt: list[int]) -> tuple[Tensor, Tensor]:
    """A prompt's tokens before and after its one image.

    Raises WeightsError where the image's tokens are not one run.
    """
    image = model.config.image_token_id
    count = prompt.count(image)
    first = prompt.index(image) if count else 0
    if not count or prompt[first : first + count] != [image] * count:
        raise WeightsError(f"prompt: want one run of image tokens {image}, found {count} of them apart")
    device = model.device
    return (
        torch.tensor(prompt[:first], dtype=torch.long, device=device),
        torch.tensor(prompt[first + count :], dtype=torch.long, device=device),
    )
