"""What benchmarks/captioner.py needs on a GPU: a full-size model of random weights, and the GPU's rates"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from reporting import Series, print_claim
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from recap_spark.miniature.quality import measure_captions
from recap_spark.miniature.render import render_scene
from recap_spark.miniature.world import HELD_OUT, Scene, draw_scene
from recap_spark.models.llava.cost import caption_flop, decode_bytes, dimensions, least_seconds
from recap_spark.models.llava.scheduler import Picture
from recap_spark.models.pixels import OPENAI_FILL, to_pixels
from recap_spark.settings.loading import load
from recap_spark.workers.captioning.captioner import CaptionerSpec, load_captioner

LIMIT_TARGET, FLOAT8_TARGET, AGREEMENT_TARGET = 0.70, 1.5, 0.90
_POINT = 0.01  # by which float8 may say less that is true
_CONF = Path(__file__).parents[1] / "conf"
_IMAGE, _SIDE, _PATCHES = 128256, 336, 576
_BEFORE, _BEHIND = 6, 24  # text tokens of a LLaMA-3 conversation with the paper's prompt, about
PROMPT = [*range(1, _BEFORE + 1), *[_IMAGE] * _PATCHES, *range(100, 100 + _BEHIND)]
STOP_IDS = frozenset({128001, 128009})
# 49.4 words on average (Recap-DataComp-1B, section 4), 1.3 tokens a word; 128 at most.
_MEAN_TOKENS, _DEVIATION, _SHORTEST, _LONGEST = 64, 22, 12, 128
_PRODUCT, _COPIED = 8192, 1 << 30  # rows, bytes
_TIMED = 20
_BF16_BYTES = 2


@dataclass(frozen=True)
class Rates:
    """What this GPU reached just now."""

    flop_per_s: float  # bfloat16 product
    bytes_per_s: float  # copy: read and written

    def __str__(self) -> str:
        return (
            f"{self.flop_per_s / 1e12:.0f} TFLOP/s in bfloat16, {self.bytes_per_s / 1e12:.2f} TB/s in copies"
        )


@dataclass(frozen=True)
class Measured:
    """An engine's timings."""

    all: Series
    prompts: Series  # the same pictures, one token each
    slots: int


def measure_rates() -> Rates:
    """A product of 8192 × 8192 matrices, and a copy of a gigabyte."""
    left = torch.randn(_PRODUCT, _PRODUCT, device="cuda", dtype=torch.bfloat16)
    right = torch.randn_like(left)
    source = torch.empty(_COPIED, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    product_s = _seconds(lambda: torch.mm(left, right))
    copy_s = _seconds(lambda: target.copy_(source))
    return Rates(2 * _PRODUCT**3 / product_s, 2 * _COPIED / copy_s)


def _seconds(work: Any) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(_TIMED):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / _TIMED


def random_model() -> Any:
    """LLaVA-1.5 on LLaMA-3-8B at 336 px, made on the GPU in bfloat16."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=_SIDE,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=128320,  # 128256 of LLaMA-3, the image's and the pad's, to a multiple of 64
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        image_token_index=_IMAGE,
        image_seq_length=_PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            return LlavaForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)


def random_pixels(count: int) -> list[Tensor]:
    """Noise: the time does not depend on what is seen."""
    noise = torch.Generator().manual_seed(0)
    some = torch.randint(0, 256, (64, 3, _SIDE, _SIDE), dtype=torch.uint8, generator=noise)
    return [some[number % len(some)] for number in range(count)]


def drawn_lengths(count: int) -> list[int]:
    """New tokens of each caption."""
    draw = random.Random(0)
    return [min(_LONGEST, max(_SHORTEST, round(draw.gauss(_MEAN_TOKENS, _DEVIATION)))) for _ in range(count)]


def print_use(measured: Measured, rates: Rates, *, longest: Sequence[int], config: Any) -> None:
    """Tokens a second, where the time goes, and how much of the GPU's arithmetic and memory is used."""
    model, tokens = dimensions(config), sum(longest) / len(longest)
    text = len(PROMPT) - _PATCHES
    flop = caption_flop(model, text_tokens=text, new_tokens=tokens)
    read = decode_bytes(
        model, text_tokens=text, new_tokens=tokens, slots=measured.slots, element_bytes=_BF16_BYTES
    )
    least = least_seconds(flop, read, flop_per_s=rates.flop_per_s, bytes_per_s=rates.bytes_per_s)
    per_s, before = measured.all.per_s, measured.prompts.median_s / measured.all.median_s
    decoding_s = (measured.all.median_s - measured.prompts.median_s) / measured.all.items
    print(f"{measured.slots} slots; {per_s * tokens:,.0f} new tokens/s, {tokens:.1f} a caption on average")
    print(f"vision and prefill {before:.0%} of the time, decoding {1 - before:.0%}")
    print(f"model FLOP utilisation {per_s * flop.total / rates.flop_per_s:.0%} of the product measured here")
    print(f"bandwidth use {read / decoding_s / rates.bytes_per_s:.0%} of the copy measured here, in decoding")
    print(f"limit {1 / least:.1f} images/s: {flop.total / 1e12:.2f} TFLOP and {read / 1e9:.1f} GB a caption")
    print_claim("captioner_limit", ratio=per_s * least, target=LIMIT_TARGET)


def print_agreement() -> None:
    """The trained miniature with float8 linears, beside what bfloat16 alone changes from batch to batch."""
    few = _captions("slots=3", "prefill_batch=1")
    many = _captions("slots=64", "prefill_batch=8")
    float8 = _captions("slots=64", "prefill_batch=8", "captioner.float8_linears=true")
    own, other = _agreement(few, many), _agreement(float8, many)
    true = [measure_captions(said.texts, scenes=said.scenes).share_true for said in (many, float8)]
    print(f"tokens up to the first that differs: bfloat16 by sizes {own:.3f}, float8 {other:.3f}")
    print(f"true statements: bfloat16 {true[0]:.2%}, float8 {true[1]:.2%}")
    print_claim("captioner_float8_tokens", ratio=other / own, target=AGREEMENT_TARGET)
    print_claim("captioner_float8_truth", ratio=true[1] / true[0], target=1 - _POINT)


@dataclass(frozen=True)
class _Said:
    """An engine's captions of held-out scenes."""

    tokens: list[list[int]]
    texts: list[str]
    scenes: list[Scene]


def _captions(*changes: str) -> _Said:
    over = [f"caption.{change}" for change in ("captioner.dtype=bfloat16", *changes)]
    spec = CaptionerSpec(load(_CONF / "base.yml", _CONF / "laptop.yml", changes=over).caption)
    captioner = load_captioner(spec, "cuda:0")
    scenes = [draw_scene(number) for number in HELD_OUT[:256]]
    pictures = [
        Picture(
            number,
            to_pixels(render_scene(scene), side=captioner.side, fill=OPENAI_FILL),
            spec.captioner.max_new_tokens,
        )
        for number, scene in enumerate(scenes)
    ]
    assert captioner.engine is not None
    said = {number: caption.tokens for number, caption in captioner.engine.generate(pictures)}
    tokens = [said[number] for number in range(len(scenes))]
    return _Said(tokens, captioner.tokenizer.batch_decode(tokens, skip_special_tokens=True), scenes)


def _agreement(some: _Said, others: _Said) -> float:
    same = sum(_agreed(one, other) for one, other in zip(some.tokens, others.tokens, strict=True))
    return same / sum(len(tokens) for tokens in others.tokens)


def _agreed(one: list[int], other: list[int]) -> int:
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
