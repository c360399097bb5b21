"""vision tower + decoder → a LLaVA whose projector has yet to learn; or a LLaVA that is one already"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from recap_spark.errors import WeightsError
from recap_spark.settings.captioner_run import PartsSettings
from recap_spark.settings.model_source import Origin, folder_of

IMAGE, PAD = "<image>", "<|pad|>"
_MULTIPLE = 64  # rows of an embedding, for the matrix units' sake; LLaMA-3's 128256 and two become 128320

# LLaMA-3's own turns, each ended by <|eot_id|>; the system's words are LLaVA-NeXT's (conversation.py,
# `llava_llama_3`), the picture stands before the words of its turn (LLaVA-1.5).
LLAMA3_CHAT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language.<|eot_id|>"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>{{ '\n\n' }}"
    "{% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] | trim }}"
    "{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %}"
)


def load_start(
    start: PartsSettings | str, *, seed: int
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """What a run starts from, in float32 on the CPU: a captioner's folder, or two parts joined.

    Equal seeds give equal projectors, in every process. Raises WeightsError where the parts do not fit,
    SettingsError for a part by its hub name without a commit.
    """
    torch.manual_seed(seed)
    if isinstance(start, PartsSettings):
        return _joined(start)
    folder = folder_of(Origin(model=start, revision=None), files="all")
    model: Any = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True
    )
    return model, LlavaProcessor.from_pretrained(folder)


def _joined(parts: PartsSettings) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    looks = folder_of(Origin(model=parts.vision_tower, revision=parts.vision_revision), files="all")
    speaks = folder_of(Origin(model=parts.decoder, revision=parts.decoder_revision), files="all")
    tower: Any = CLIPVisionModel.from_pretrained(looks, dtype=torch.float32, use_safetensors=True)
    decoder: Any = AutoModelForCausalLM.from_pretrained(speaks, dtype=torch.float32, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(speaks)
    if tokenizer.convert_tokens_to_ids("<|eot_id|>") in (None, tokenizer.unk_token_id):
        raise WeightsError(f"{parts.decoder}: want LLaMA-3's <|eot_id|> in the tokenizer, found none")
    processor = _processor(tokenizer, LlavaImageProcessorPil.from_pretrained(looks, do_pad=True), tower)
    words = processor.tokenizer
    decoder.resize_token_embeddings(len(words), pad_to_multiple_of=_MULTIPLE, mean_resizing=False)
    decoder.config.pad_token_id = words.pad_token_id
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=decoder.config,
        image_token_index=words.convert_tokens_to_ids(IMAGE),
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        # The layer before the last, without its CLS: LLaVA-1.5 (mm_vision_select_layer, select_feature).
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = tower
    model.model.language_model = decoder.model
    model.lm_head = decoder.lm_head
    model.model.multi_modal_projector = LlavaMultiModalProjector(config)
    _stops_where_its_decoder_does(model, decoder, words)
    return model, processor


def _processor(tokenizer: Any, images: LlavaImageProcessorPil, tower: Any) -> LlavaProcessor:
    tokenizer.add_special_tokens({"pad_token": PAD, "additional_special_tokens": [IMAGE]})
    # Generation wants it left; `collate` pads on the right by itself.
    tokenizer.padding_side = "left"
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=LLAMA3_CHAT,
    )


def _stops_where_its_decoder_does(model: Any, decoder: Any, words: Any) -> None:
    ends = {words.eos_token_id, words.convert_tokens_to_ids("<|eot_id|>")}
    model.generation_config = decoder.generation_config
    # LLaMA-3's base model knows one of its two ends, and runs on past the other.
    model.generation_config.eos_token_id = sorted(ends)
    model.generation_config.pad_token_id = words.pad_token_id
