"""words → tokenizers, processors and untrained models of miniature size"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from recap_spark.models.pixels import OPENAI_MEAN, OPENAI_STD

SIDE = 64  # pixels
PATCH = 8  # pixels; 16 blurs a small circle into a small square
VOCABULARY = 768
TEXT_POSITIONS = 77  # as in every OpenAI CLIP: the longest descriptions just fit

PAD, BEGIN, USER, ASSISTANT, TURN_END, TEXT_END, IMAGE = (
    "<|pad|>",
    "<|begin_of_text|>",
    "<|user|>",
    "<|assistant|>",
    "<|eot|>",
    "<|end_of_text|>",
    "<image>",
)
# The end of text must not get id 2: transformers takes that for a faulty old CLIP config and pools elsewhere.
SPECIAL_TOKENS = (PAD, BEGIN, USER, ASSISTANT, TURN_END, TEXT_END, IMAGE)

# Ends in a special token, so a caption's words split the same way whatever stands before them. The beginning
# is written here and not added by the tokenizer: both together would begin the text twice.
CHAT_TEMPLATE = (
    BEGIN + "{% for message in messages %}"
    "{{ '" + USER + "' if message['role'] == 'user' else '" + ASSISTANT + "' }}"
    "{% for part in message['content'] %}"
    "{{ '" + IMAGE + "\\n' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}" + TURN_END + "{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)


def train_words(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE: it has no unknown token, and gives any text back exactly."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    return words


def captioner_processor(words: Tokenizer) -> LlavaProcessor:
    """Left padding, one chat template, and the patch counts that expand `<image>`."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(words.to_str()),
        bos_token=BEGIN,
        eos_token=TEXT_END,
        pad_token=PAD,
        padding_side="left",
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=512,
    )
    return LlavaProcessor(
        image_processor=_image_processor(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def clip_processor(words: Tokenizer) -> CLIPProcessor:
    """Wraps a text in its two ends and pads it on the right, as CLIP pools at the first end of text."""
    own = Tokenizer.from_str(words.to_str())
    ends = [(token, own.token_to_id(token)) for token in (BEGIN, TEXT_END)]
    own.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {TEXT_END}", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token=BEGIN,
        eos_token=TEXT_END,
        pad_token=PAD,
        padding_side="right",
        model_max_length=TEXT_POSITIONS,
    )
    return CLIPProcessor(image_processor=_image_processor(), tokenizer=tokenizer)


def _image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(OPENAI_MEAN),
        image_std=list(OPENAI_STD),
    )


def new_clip(words: Tokenizer, *, seed: int) -> CLIPModel:
    """An untrained CLIP: a vision tower of four layers at 64 px, a text tower of three at 77 tokens."""
    torch.manual_seed(seed)
    text = CLIPTextConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TEXT_POSITIONS,
        projection_dim=128,
        pad_token_id=words.token_to_id(PAD),
        bos_token_id=words.token_to_id(BEGIN),
        eos_token_id=words.token_to_id(TEXT_END),
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=_vision().to_dict(), projection_dim=128)
    )


def _vision() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=128,
    )


def new_captioner(words: Tokenizer, *, clip: CLIPModel, seed: int) -> LlavaForConditionalGeneration:
    """A LLaVA whose vision tower is this CLIP's; projector and decoder are untrained."""
    torch.manual_seed(seed)
    decoder = LlamaConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        pad_token_id=words.token_to_id(PAD),
        bos_token_id=words.token_to_id(BEGIN),
        eos_token_id=words.token_to_id(TEXT_END),
    )
    config = LlavaConfig(
        vision_config=_vision(),
        text_config=decoder,
        image_token_index=SPECIAL_TOKENS.index(IMAGE),  # ids are given in that order
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    captioner = LlavaForConditionalGeneration(config)
    tower = captioner.model.vision_tower
    tower.load_state_dict(clip.vision_model.state_dict())
    answers = captioner.generation_config
    answers.pad_token_id = words.token_to_id(PAD)
    answers.bos_token_id = words.token_to_id(BEGIN)
    # Two ends, as LLaMA-3 has, of the turn and of the text: stopping at one of them only runs to the limit.
    answers.eos_token_id = [words.token_to_id(TEXT_END), words.token_to_id(TURN_END)]
    answers.max_new_tokens = 128
    answers.do_sample = False
    return captioner
