"""Rows of images → rows of captions"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recap_spark.errors import WeightsError
from recap_spark.statuses import CaptionStatus, FinishReason
from recap_spark.workers.partition import Row
from recap_spark.workers.pictures import PictureError, decode_rgb
from recap_spark.workers.weights import resolve, weights_sha256

if TYPE_CHECKING:  # the driver describes a captioner without torch; only workers load one
    from torch import Tensor
    from transformers import LlavaForConditionalGeneration

CAPTIONED = pa.schema(
    [
        ("uid", pa.string()),
        ("captioner", pa.string()),
        ("status", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens", pa.int32()),
        ("caption", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class CaptionerSpec:
    """What makes a captioner's captions what they are, and how fast a worker makes them."""

    name: str
    model: str  # folder, hub name, or miniature:NAME
    revision: str | None
    prompt: str
    max_new_tokens: int
    dtype: str
    batch_size: int  # images per generation
    decode_threads: int
    engine_threads: int  # of torch on a CPU
    largest_pixels: int

    def load(self, device: str) -> Captioner:
        return load_captioner(self, device)


@dataclass(frozen=True)
class Captioner:
    """A loaded captioner: the model, its one prompt as tokens, and how it wants its pictures."""

    spec: CaptionerSpec
    model: LlavaForConditionalGeneration
    tokenizer: Any  # transformers' tokenizers share no one type
    prompt_ids: list[int]
    stop_ids: frozenset[int]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Prepared:
    """One image ready for the model, or the reason why there is none."""

    uid: str
    pixels: Tensor | None  # uint8 [3, S, S]
    status: CaptionStatus


def describe_captioner(spec: CaptionerSpec) -> dict[str, str | None]:
    """A row of `captioners`.

    Its key carries the fingerprint: other weights or another prompt, another captioner.
    """
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(resolve(spec.model), revision=spec.revision or "main")
    made_by = {
        "model": spec.model,
        "revision": spec.revision,
        "weights_sha256": weights_sha256(spec.model),
        "prompt": spec.prompt,
        "chat_template": processor.chat_template,
        "decoding": json.dumps({"strategy": "greedy", "max_new_tokens": spec.max_new_tokens}),
        "dtype": spec.dtype,
    }
    fingerprint = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    return {"captioner": f"{spec.name}-{fingerprint[:12]}", "fingerprint": fingerprint, **made_by}


def load_captioner(spec: CaptionerSpec, device: str) -> Captioner:
    """Weights and processor in Hugging Face's LLaVA layout.

    Raises WeightsError where they do not fit each other.
    """
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    if device == "cpu":
        torch.set_num_threads(spec.engine_threads)
    source = resolve(spec.model)
    model: Any = LlavaForConditionalGeneration.from_pretrained(
        source, revision=spec.revision or "main", dtype=getattr(torch, spec.dtype), use_safetensors=True
    )
    processor = AutoProcessor.from_pretrained(source, revision=spec.revision or "main")
    images = processor.image_processor
    return Captioner(
        spec=spec,
        model=model.to(device).eval(),
        tokenizer=processor.tokenizer,
        prompt_ids=_prompt_ids(processor, model, spec.prompt),
        stop_ids=_stop_ids(model),
        side=model.config.vision_config.image_size,
        mean=tuple(images.image_mean),
        std=tuple(images.image_std),
    )


def prepare_image(captioner: Captioner, row: Row) -> Prepared:
    """Bytes → the padded square the vision tower looks at; a picture that will not decode is a status."""
    from recap_spark.models.pixels import to_pixels

    try:
        picture = decode_rgb(row["bytes"], largest_pixels=captioner.spec.largest_pixels)
    except PictureError:
        return Prepared(row["uid"], None, CaptionStatus.UNDECODABLE)
    red, green, blue = (int(channel * 255) for channel in captioner.mean)
    return Prepared(
        row["uid"], to_pixels(picture, side=captioner.side, fill=(red, green, blue)), CaptionStatus.OK
    )


def answer_captions(captioner: Captioner, images: list[Prepared], *, key: str) -> pa.RecordBatch:
    """One row of CAPTIONED for every image, in order; `key` is the captioner's in the table."""
    import torch

    from recap_spark.models.generation import generate_greedily
    from recap_spark.models.pixels import normalise

    pixels = [image.pixels for image in images if image.pixels is not None]
    captions: list[Row] = []
    if pixels:
        batch = torch.stack(pixels).to(captioner.model.device)
        generated = generate_greedily(
            captioner.model,
            normalise(batch, mean=captioner.mean, std=captioner.std),
            captioner.prompt_ids,
            max_new_tokens=captioner.spec.max_new_tokens,
            stop_ids=captioner.stop_ids,
        )
        captions = [_said(captioner, caption.tokens, stopped=caption.stopped) for caption in generated]
    answers = iter(captions)
    rows = [
        {"uid": image.uid, "captioner": key, "status": str(image.status)}
        | (next(answers) if image.pixels is not None else {})
        for image in images
    ]
    return pa.RecordBatch.from_pylist(rows, schema=CAPTIONED)


def poison_row(uid: str, *, key: str) -> Row:
    """What is kept of an image that must not go to the engine again."""
    return {"uid": uid, "captioner": key, "status": str(CaptionStatus.POISON)}


def _said(captioner: Captioner, tokens: list[int], *, stopped: bool) -> Row:
    text = captioner.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    finish = FinishReason.STOP if stopped else FinishReason.LENGTH
    return {
        "status": str(CaptionStatus.OK if text else CaptionStatus.EMPTY_CAPTION),
        "finish_reason": str(finish),
        "tokens": len(tokens) + stopped,
        "caption": text or None,
    }


def _prompt_ids(processor: Any, model: Any, prompt: str) -> list[int]:
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
    text = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    patches = (model.config.vision_config.image_size // model.config.vision_config.patch_size) ** 2
    bos = processor.tokenizer.bos_token
    # A template that spells the BOS out, tokenised with special tokens, begins with two of them.
    spelled_out = bool(bos) and text.startswith(bos)
    expanded = text.replace(processor.image_token, processor.image_token * patches)
    ids: list[int] = processor.tokenizer(expanded, add_special_tokens=not spelled_out).input_ids
    found = ids.count(model.config.image_token_id)
    if found != patches:
        raise WeightsError(f"prompt: want {patches} image tokens for {patches} patches, found {found}")
    return ids


def _stop_ids(model: Any) -> frozenset[int]:
    stop = model.generation_config.eos_token_id
    if stop is None:
        raise WeightsError("generation_config.json: want eos_token_id, found none: captions would never stop")
    return frozenset([stop] if isinstance(stop, int) else stop)
