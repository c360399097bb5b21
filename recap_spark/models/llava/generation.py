"""prompt + pixels → token ids, greedily, for a batch of images that share one prompt"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

# b batch, p prompt tokens with the image's in place, g generated tokens


@dataclass(frozen=True)
class Generated:
    """The tokens of one caption, the stop token not among them."""

    tokens: list[int]
    stopped: bool  # False where the limit of new tokens cut it


@torch.inference_mode()
def generate_greedily(
    model: LlavaForConditionalGeneration,
    pixels: Tensor,
    prompt: list[int],
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int],
) -> list[Generated]:
    """Caption normalised pixels [b, 3, S, S].

    Every prompt has the same length, so nothing is padded and no mask is needed: a batch decodes what each
    image would decode alone, up to the arithmetic of the batched kernels.
    """
    prompt_bp = torch.tensor([prompt], device=model.device).expand(pixels.shape[0], -1)
    llava: Any = model  # generate's annotations contradict themselves
    output_bt = llava.generate(
        input_ids=prompt_bp,
        attention_mask=torch.ones_like(prompt_bp),
        pixel_values=pixels.to(model.device, model.dtype),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=sorted(stop_ids),
        pad_token_id=min(stop_ids),
    )
    return [until_stop(row, stop_ids) for row in output_bt[:, len(prompt) :].tolist()]


def until_stop(tokens: list[int], stop_ids: frozenset[int]) -> Generated:
    """The tokens up to the first stop, if there is one."""
    stop = next((place for place, token in enumerate(tokens) if token in stop_ids), None)
    return Generated(tokens if stop is None else tokens[:stop], stopped=stop is not None)
