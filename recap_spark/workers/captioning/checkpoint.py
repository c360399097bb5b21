"""A folder or hub name → a LLaVA and its processor, from the published or the original layout

The original layout (`model_type: llava_llama`) contains neither tokenizer nor image processor, asks for right
padding, and names only one of LLaMA-3's two end tokens. Its parts in conf and this module supply the rest.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recap_spark.errors import SettingsError, WeightsError
from recap_spark.settings.model_source import Named, Parts, folder_of
from recap_spark.settings.schema import CaptionerSettings
from recap_spark.settings.template import Template
from recap_spark.workers.model_types import model_type, opened_as
from recap_spark.workers.weights import folder_sha256

if TYPE_CHECKING:  # the driver describes a captioner without torch; only workers load one
    import torch
    from transformers import CLIPVisionConfig, LlavaForConditionalGeneration

    from recap_spark.models.tensor_files import Stored

    _Opened = tuple[LlavaForConditionalGeneration, Any, dict[str, Stored]]

# Ids 128001 and 128009: the end of a text, which LLaMA-3's base knows, and the end of a turn, in which its
# chats end. A captioner that stops at one of them only runs on to the limit.
_ENDS = ("<|end_of_text|>", "<|eot_id|>")
_UNUSED = re.compile(r"<\|reserved_special_token_\d+\|>")


@dataclass(frozen=True)
class Original:
    """A checkpoint in the original layout and its parts; the weights are still in their files."""

    folder: Path
    tower: Path
    settings: dict[str, Any]  # config.json
    vision: CLIPVisionConfig
    processor: Any
    pad_token_id: int
    stop_ids: list[int]


def describe_parts(parts: Parts | None) -> str | None:
    """The parts as JSON, a folder with the hash of its files."""
    if parts is None:
        return None
    hashes = {name: folder_sha256(part["model"]) for name, part in asdict(parts).items()}
    return json.dumps(
        {name: part | {"sha256": hashes[name]} for name, part in asdict(parts).items()}, sort_keys=True
    )


def load_processor(captioner: CaptionerSettings) -> Any:
    """Tokenizer, image processor and conversation template, as transformers' LlavaProcessor; no weights."""
    from transformers import AutoProcessor

    folder = folder_of(captioner, files="texts")
    if layout_of(folder) == "llava_llama":
        return open_original(captioner, files="texts").processor
    processor = AutoProcessor.from_pretrained(folder)
    if captioner.template:
        processor.chat_template = captioner.template.chat_template(processor.image_token)
    return processor


def chat_template(captioner: CaptionerSettings) -> str | None:
    """The template that `load_processor` gives. Where the folder has it in a file of its own, only that file
    is read: importing transformers would cost the driver 20 s and 700 MB.
    """
    folder = folder_of(captioner, files="texts")
    file, described = folder / "chat_template.jinja", folder / "processor_config.json"
    elsewhere = (folder / "chat_template.json").exists() or (folder / "additional_chat_templates").exists()
    is_its_own = layout_of(folder) == "llava" and captioner.template is None
    if is_its_own and file.exists() and not elsewhere:
        in_description = json.loads(described.read_text()) if described.exists() else {}
        if "chat_template" not in in_description:
            return file.read_text()
    template: str | None = load_processor(captioner).chat_template
    return template


def load_llava(
    captioner: CaptionerSettings, *, dtype: torch.dtype, device: str
) -> tuple[LlavaForConditionalGeneration, Any]:
    """The model, ready to answer, and its processor. Raises WeightsError as `open_llava` does."""
    from recap_spark.models.llava.layout import fill

    model, processor, placed = open_llava(captioner)
    fill(model, placed, dtype=dtype, device=device)
    ready: Any = model
    return ready.to(device).eval(), processor  # only buffers are left to move


def open_llava(captioner: CaptionerSettings) -> _Opened:
    """The model without its weights, its processor, and where the weights lie; none of them is read.

    Raises WeightsError where a tensor's name or shape does not fit the configuration.
    """
    folder = folder_of(captioner, files="all")
    layout = layout_of(folder)
    with opened_as(folder, f"a LLaVA in the layout {layout}"):
        return _open_published(captioner, folder) if layout == "llava" else _open_original(captioner, folder)


def _open_published(captioner: CaptionerSettings, folder: Path) -> _Opened:
    from recap_spark.models.llava.layout import FROM_PUBLISHED, place_tensors
    from recap_spark.models.tensor_files import tensors_in

    processor = load_processor(captioner)
    # transformers' own loader takes more than twice a shard beside the model, and fills what is missing at
    # random.
    model = _published(folder)
    return model, processor, place_tensors(model, tensors_in(folder), FROM_PUBLISHED, tower=None)


def _open_original(captioner: CaptionerSettings, folder: Path) -> _Opened:
    from recap_spark.models.llava.layout import FROM_ORIGINAL, place_tensors, unfilled
    from recap_spark.models.tensor_files import tensors_in

    original = open_original(captioner, files="all")
    model = unfilled(configured(original))
    model.generation_config = answers(original)
    tensors = tensors_in(folder)
    placed = place_tensors(model, tensors, FROM_ORIGINAL, tower=lambda: tensors_in(original.tower))
    return model, original.processor, placed


def layout_of(folder: Path) -> Literal["llava", "llava_llama"]:
    """Which of the two layouts a folder has. Raises WeightsError for any other model."""
    found = model_type(folder, wanted=("llava", "llava_llama"))
    return "llava" if found == "llava" else "llava_llama"


def open_original(captioner: CaptionerSettings, *, files: Literal["texts", "all"]) -> Original:
    """The original layout with its tokenizer, its image processor and its template.

    Raises SettingsError where the captioner has no parts or no template, WeightsError where the tokenizer is
    another model's.
    """
    from transformers import CLIPVisionConfig

    if captioner.parts is None or captioner.template is None:
        lacking = "parts" if captioner.parts is None else "template"
        raise SettingsError(
            f"{captioner.model}: its original LLaVA layout has no {lacking}: want {lacking}, found null"
        )
    folder = folder_of(captioner, files=files)
    tower = folder_of(captioner.parts.vision_tower, files=files)
    settings = json.loads((folder / "config.json").read_text())
    vision: CLIPVisionConfig = CLIPVisionConfig.from_pretrained(tower)
    tokenizer, pad_token_id, stop_ids = _tokenizer(captioner.parts.tokenizer, settings)
    processor = _processor(tokenizer, tower, vision, captioner.template)
    return Original(folder, tower, settings, vision, processor, pad_token_id, stop_ids)


def configured(original: Original) -> Any:
    """transformers' LlavaConfig for the checkpoint."""
    from recap_spark.models.llava.layout import llava_config

    return llava_config(
        original.settings,
        original.vision,
        image_token_id=original.processor.image_token_id,
        pad_token_id=original.pad_token_id,
    )


def answers(original: Original) -> Any:
    """transformers' GenerationConfig: greedy decoding that stops at either of LLaMA-3's end tokens."""
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=original.settings["bos_token_id"],
        eos_token_id=original.stop_ids,
        pad_token_id=original.pad_token_id,
        do_sample=False,
    )


def _published(folder: Path) -> LlavaForConditionalGeneration:
    from transformers import GenerationConfig, LlavaConfig

    from recap_spark.models.llava.layout import unfilled

    config: LlavaConfig = LlavaConfig.from_pretrained(folder)
    model = unfilled(config)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _tokenizer(origin: Named, settings: dict[str, Any]) -> tuple[Any, int, list[int]]:
    """LLaMA-3's tokenizer with an image and a pad token, the pad's id, and the ids of both ends."""
    from transformers import AutoTokenizer

    folder = folder_of(origin, files="texts")
    held = AutoTokenizer.from_pretrained(folder).get_vocab()
    if lacking := [end for end in _ENDS if end not in held]:
        raise WeightsError(
            f"{origin.model}: want a LLaMA-3 tokenizer with {' and '.join(lacking)}, found none"
        )
    stop_ids = [held[end] for end in _ENDS]
    if settings["eos_token_id"] not in stop_ids:
        found = settings["eos_token_id"]
        raise WeightsError(f"{origin.model}: want the checkpoint's eos_token_id {found}, found {stop_ids}")
    # Nothing was trained on the reserved tokens, and the embedding has their rows: the vocabulary stays as it
    # is. 32000 and 32001, which LLaVA-1.5's converters give to image and pad, are words of LLaMA-3.
    unused = sorted((at, token) for token, at in held.items() if _UNUSED.fullmatch(token))
    unused = [(at, token) for at, token in unused if at < settings["vocab_size"]]
    if len(unused) < 2:
        raise WeightsError(
            f"{origin.model}: want two reserved special tokens below {settings['vocab_size']}, found {unused}"
        )
    (pad_token_id, pad), (_, image) = unused[-2:]
    tokenizer = AutoTokenizer.from_pretrained(
        folder,
        bos_token="<|begin_of_text|>",
        eos_token=_ENDS[0],
        pad_token=pad,
        padding_side="left",  # the checkpoint says right, but a batch needs the ends of its prompts in line
        extra_special_tokens={"image_token": image},
    )
    if tokenizer.bos_token_id != settings["bos_token_id"]:
        raise WeightsError(
            f"{origin.model}: want the checkpoint's bos_token_id {settings['bos_token_id']}, "
            f"found {tokenizer.bos_token_id}"
        )
    return tokenizer, pad_token_id, stop_ids


def _processor(tokenizer: Any, tower: Path, vision: CLIPVisionConfig, template: Template) -> Any:
    from transformers import LlavaImageProcessorPil, LlavaProcessor

    return LlavaProcessor(
        # As `image_aspect_ratio: pad` says; CLIP's own would have every other engine cut the edges off.
        image_processor=LlavaImageProcessorPil.from_pretrained(tower, do_pad=True),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLS, which the strategy leaves out again
        image_token=tokenizer.image_token,
        chat_template=template.chat_template(tokenizer.image_token),
    )
