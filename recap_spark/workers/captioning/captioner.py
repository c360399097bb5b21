"""A captioner as conf describes it → the model on a worker, and images as it wants them"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from recap_spark.errors import SettingsError, WeightsError
from recap_spark.settings.schema import CaptionerSettings, CaptionSettings
from recap_spark.statuses import CaptionStatus
from recap_spark.workers.captioning.checkpoint import chat_template, describe_parts, load_llava
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders
from recap_spark.workers.rows import Row
from recap_spark.workers.weights import weights_sha256

if TYPE_CHECKING:  # the driver describes a captioner without torch; only workers load one
    from torch import Tensor
    from transformers import LlavaForConditionalGeneration

    from recap_spark.models.llava.engine import SlotEngine


@dataclass(frozen=True)
class CaptionerSpec:
    """A captioner whose weights each worker loads."""

    settings: CaptionSettings  # with a captioner of engine slots or generate

    @property
    def captioner(self) -> CaptionerSettings:
        """Raises SettingsError where the captioner is one behind a server."""
        captioner = self.settings.captioner
        if isinstance(captioner, CaptionerSettings):
            return captioner
        found = f"{captioner.name}, whose weights a server has"
        raise SettingsError(f"caption.captioner: want one with engine: slots or generate, found {found}")

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    @property
    def decode_threads(self) -> int:
        return self.settings.decode_threads

    def load(self, device: str) -> Captioner:
        return load_captioner(self, device)


@dataclass(frozen=True)
class Captioner:
    """A loaded captioner: the model, its prompt as token ids, and the size and normalisation of its input."""

    spec: CaptionerSpec
    model: LlavaForConditionalGeneration
    decoders: PixelDecoders
    engine: SlotEngine | None  # None: transformers' own generate
    tokenizer: Any  # transformers' tokenizers share no one type
    prompt_ids: list[int]
    tokenise: Callable[[str], list[int]]  # any other prompt, about a picture
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
    """The captioner's row in the table `captioners`.

    Its key contains a fingerprint of the weights, the prompt and everything else that changes the captions.
    """
    captioner = spec.captioner
    made_by: dict[str, str | None] = {
        "model": captioner.model,
        "revision": captioner.revision,
        "weights_sha256": weights_sha256(captioner.model),
        "parts": describe_parts(captioner.parts),
        "prompt": captioner.prompt,
        "template": captioner.template.label() if captioner.template else None,
        "chat_template": chat_template(captioner),
        "decoding": json.dumps({"strategy": "greedy", "max_new_tokens": captioner.max_new_tokens}),
        "dtype": f"{captioner.dtype}, float8 linears" if captioner.float8_linears else captioner.dtype,
    }
    fingerprint = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    return {"captioner": f"{captioner.name}-{fingerprint[:12]}", "fingerprint": fingerprint, **made_by}


def load_captioner(spec: CaptionerSpec, device: str) -> Captioner:
    """Load weights and processor from the published or the original LLaVA layout.

    Raises WeightsError where weights and configuration do not fit each other.
    """
    import torch

    if device == "cpu":
        torch.set_num_threads(spec.settings.engine_threads)
    model: Any
    model, processor = load_llava(spec.captioner, dtype=getattr(torch, spec.captioner.dtype), device=device)
    images = processor.image_processor
    captioner = Captioner(
        spec=spec,
        model=model,
        decoders=PixelDecoders(spec.settings.decode),
        engine=None,
        tokenizer=processor.tokenizer,
        prompt_ids=prompt_tokens(processor, model, spec.captioner.prompt),
        tokenise=partial(prompt_tokens, processor, model),
        stop_ids=stop_tokens(model),
        side=model.config.vision_config.image_size,
        mean=tuple(images.image_mean),
        std=tuple(images.image_std),
    )
    return (
        replace(captioner, engine=slot_engine(captioner)) if spec.captioner.engine == "slots" else captioner
    )


def slot_engine(captioner: Captioner) -> SlotEngine:
    """The captioner's own engine, on the model's weights.

    Raises WeightsError where it cannot run this model, PlatformError where the device has no float8.
    """
    from recap_spark.models.llava.engine import EngineLimits, SlotEngine

    spec = captioner.spec
    limits = EngineLimits(
        max_new_tokens=spec.captioner.max_new_tokens,
        slots=spec.settings.slots,
        prefill_batch=spec.settings.prefill_batch,
        memory_bytes=spec.settings.engine_memory_bytes,
        float8_linears=spec.captioner.float8_linears,
    )
    return SlotEngine(
        captioner.model,
        captioner.prompt_ids,
        stop_ids=captioner.stop_ids,
        mean=captioner.mean,
        std=captioner.std,
        limits=limits,
    )


def prepare_image(captioner: Captioner, row: Row) -> Prepared:
    """Decode a picture and pad it to the square that the vision tower takes. One that cannot be decoded gets
    a status in place of pixels.
    """
    from recap_spark.models.pixels import to_pixels

    try:
        picture = captioner.decoders.decode(row["bytes"])
    except PictureError:
        return Prepared(row["uid"], None, CaptionStatus.UNDECODABLE)
    red, green, blue = (int(channel * 255) for channel in captioner.mean)
    return Prepared(
        row["uid"], to_pixels(picture, side=captioner.side, fill=(red, green, blue)), CaptionStatus.OK
    )


def prompt_tokens(processor: Any, model: Any, prompt: str) -> list[int]:
    """The tokens of a prompt about one picture.

    Raises WeightsError where they have not one image token for each of the picture's patches, or where the
    template and the tokenizer together give no beginning of the text, or two.
    """
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
    if bos and (begins := ids.count(processor.tokenizer.bos_token_id)) != 1:
        raise WeightsError(f"prompt: want {bos} once, found it {begins} times in {text!r}")
    return ids


def stop_tokens(model: Any) -> frozenset[int]:
    """The ids that end a caption. Raises WeightsError where the model names none."""
    stop = model.generation_config.eos_token_id
    if stop is None:
        raise WeightsError(
            "generation_config.json: want eos_token_id, found none: no caption would end before its limit"
        )
    return frozenset([stop] if isinstance(stop, int) else stop)
