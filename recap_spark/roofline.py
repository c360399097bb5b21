"""How many images a second one GPU can caption: the arithmetic that LLaVA-1.5 on LLaMA-3-8B needs, over the
card's rate

Prefill of the picture's tokens is nearly all of it, and large batches hide the reading of weights, so the
matrix rate decides: images/s = rate / FLOP an image.
"""

from __future__ import annotations

from dataclasses import dataclass

# LLaMA-3-8B (config.json): layers, width, feed-forward, vocabulary, heads, key-value heads, head width
_LAYERS, _WIDTH, _FEED, _VOCABULARY, _KV_HEADS, _HEAD = 32, 4096, 14336, 128256, 8, 128
# CLIP ViT-L/14 (config.json); LLaVA reads layer -2, so one of its 24 layers is not needed
_VISION_LAYERS, _VISION_WIDTH, _VISION_FEED, _PATCH = 23, 1024, 4096, 14

_LINEAR = _LAYERS * (2 * _WIDTH * _WIDTH + 2 * _WIDTH * _KV_HEADS * _HEAD + 3 * _WIDTH * _FEED)
"""Weights of the decoder's linear layers: each costs two operations a token."""
_LM_HEAD = _VOCABULARY * _WIDTH


@dataclass(frozen=True, kw_only=True)
class CaptionWork:
    """Floating-point operations that one image costs, by phase."""

    vision: float
    projector: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        return self.vision + self.projector + self.prefill + self.decode


def caption_work(*, side: int, prompt_tokens: int, new_tokens: int) -> CaptionWork:
    """FLOP of one image of `side` by `side` pixels: 9.94e12 at 336 pixels, 30 and 66 tokens.

    The last position alone goes through the head in prefill; attention is causal, and costs four operations a
    key, layer and width.
    """
    patches = (side // _PATCH) ** 2
    prompt = patches + prompt_tokens
    per_key = 4 * _LAYERS * _WIDTH
    prefill_keys = prompt * (prompt + 1) // 2
    steps = new_tokens - 1  # prefill brings the first
    decode_keys = sum(prompt + step for step in range(1, new_tokens))
    return CaptionWork(
        vision=_vision_work(patches),
        projector=2 * patches * (_VISION_WIDTH * _WIDTH + _WIDTH * _WIDTH),
        prefill=2 * _LINEAR * prompt + per_key * prefill_keys + 2 * _LM_HEAD,
        decode=2 * (_LINEAR + _LM_HEAD) * steps + per_key * decode_keys,
    )


def images_per_second(work: CaptionWork, *, tflops: float, share: float) -> float:
    """rate / FLOP an image, times the share of it that an engine reaches."""
    return tflops * 1e12 / work.total * share


def _vision_work(patches: int) -> float:
    tokens = patches + 1  # and CLS
    weights = _VISION_LAYERS * (4 * _VISION_WIDTH**2 + 2 * _VISION_WIDTH * _VISION_FEED)
    attention = _VISION_LAYERS * 4 * _VISION_WIDTH * tokens**2
    embedding = 2 * tokens * 3 * _PATCH**2 * _VISION_WIDTH
    return 2 * weights * tokens + attention + embedding
