"""images + texts → how well they go together, by a CLIP"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

# i images, t texts, d joint width


@torch.inference_mode()
def image_features(model: CLIPModel, pixels: Tensor) -> Tensor:
    """Normalised pixels [i, 3, S, S] → projected features [i, d], float32, of no particular length."""
    pooled = model.vision_model(pixel_values=pixels.to(model.device, model.dtype)).pooler_output
    features: Tensor = model.visual_projection(pooled).float()
    return features


@torch.inference_mode()
def text_features(model: CLIPModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Token ids and mask [t, L] → projected features [t, d], float32, of no particular length."""
    pooled = model.text_model(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device)
    ).pooler_output
    features: Tensor = model.text_projection(pooled).float()
    return features


def cosine(image_td: Tensor, text_td: Tensor) -> Tensor:
    """Cosine of each pair of rows, -1 to 1, [t]."""
    return (normalize(image_td, dim=-1) * normalize(text_td, dim=-1)).sum(-1)


def pair_preference(
    image_d: Tensor, original_d: Tensor, caption_d: Tensor, *, features: str, scale: float
) -> float:
    """The caption's share of a softmax over {original, caption}, 0 to 1; not a cosine.

    Recap-DataComp-1B, section 4, reports shares whose two sides add up to 100. Long-CLIP's demo forms them
    from raw features without a logit scale; `features` says 'raw' or 'normalised', `scale` multiplies the two
    similarities.
    """
    if features == "normalised":
        image_d, original_d, caption_d = (normalize(row, dim=-1) for row in (image_d, original_d, caption_d))
    pair = torch.stack([image_d @ original_d, image_d @ caption_d]) * scale
    return float(pair.softmax(0)[1])
