"""LLaVA's two layouts on the disk → transformers' LLaVA: configuration, names of tensors, and the model

LLaVA (haotian-liu/LLaVA, llava/model/llava_arch.py) keeps vision tower, projector and decoder as one causal
LM of `model_type: llava_llama`; the published layout, llava-hf's, keeps the three apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from recap_spark.errors import WeightsError
from recap_spark.models.tensor_files import COMPUTED, Stored, check_fit, read_tensors

Rules = tuple[tuple[str, str], ...]

FROM_ORIGINAL: Rules = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.embed_tokens.", "model.language_model.embed_tokens."),
    ("model.layers.", "model.language_model.layers."),
    ("model.norm.", "model.language_model.norm."),
    ("lm_head.", "lm_head."),
)
FROM_CLIP: Rules = (("vision_model.", "model.vision_tower."),)
# transformers has named them in several ways; the longer beginning goes before the shorter.
FROM_PUBLISHED: Rules = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("model.language_model.", "model.language_model."),
    ("model.vision_tower.vision_model.", "model.vision_tower."),
    ("model.vision_tower.", "model.vision_tower."),
    ("model.multi_modal_projector.", "model.multi_modal_projector."),
    ("lm_head.", "lm_head."),
)

# Of a whole CLIP only the vision tower is LLaVA's.
_CLIP_BESIDE_THE_TOWER = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
_TOWER = "model.vision_tower."

# As the checkpoints of llava-hf name them, which transformers of every version and other engines read.
_TO_PUBLISHED: Rules = (
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)

# What this captioner does with an image; another LLaVA would be loaded whole and would see something else.
_SAME_LLAVA: dict[str, tuple[Any, Any]] = {  # key: what is wanted, what its absence means
    "mm_projector_type": ("mlp2x_gelu", "linear"),
    "mm_vision_select_feature": ("patch", "patch"),
    "mm_patch_merge_type": ("flat", "flat"),
    "image_aspect_ratio": ("pad", "square"),
    "mm_use_im_start_end": (False, False),
}
_DECODER = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
)
_DECODER_OPTIONS = (
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "head_dim",
    "rope_scaling",
    "initializer_range",
)


def llava_config(
    original: Mapping[str, Any], vision: CLIPVisionConfig, *, image_token_id: int, pad_token_id: int
) -> LlavaConfig:
    """LLaVA's one flat configuration and its vision tower's → transformers' nested one.

    Raises WeightsError naming every key that is missing or says another LLaVA than the padded, two-layer one.
    """
    wrong = [f"{key}: want a value, found none" for key in _DECODER if key not in original]
    for key, (wanted, absent) in _SAME_LLAVA.items():
        if (found := original.get(key, absent)) != wanted:
            wrong.append(f"{key}: want {wanted!r}, found {found!r}")
    if not isinstance(original.get("mm_vision_select_layer"), int):
        wrong.append(
            f"mm_vision_select_layer: want a number, found {original.get('mm_vision_select_layer')!r}"
        )
    tower: Any = vision  # its sizes are ints, whatever else the annotations allow for
    if original.get("mm_hidden_size") != tower.hidden_size:
        width = original.get("mm_hidden_size")
        wrong.append(f"mm_hidden_size: want the vision tower's {tower.hidden_size}, found {width!r}")
    if wrong:
        raise WeightsError("config.json: " + "; ".join(wrong))
    held = {key: original[key] for key in (*_DECODER, *_DECODER_OPTIONS) if original.get(key) is not None}
    decoder: LlamaConfig = LlamaConfig.from_dict(held | {"pad_token_id": pad_token_id})
    return LlavaConfig(
        vision_config=tower,
        text_config=decoder,
        image_token_index=image_token_id,
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        projector_hidden_act="gelu",
        vision_feature_layer=original["mm_vision_select_layer"],
        vision_feature_select_strategy="default",  # the patches, without CLS
        tie_word_embeddings=decoder.tie_word_embeddings,
    )


def unfilled(config: LlavaConfig) -> LlavaForConditionalGeneration:
    """The model with parameters that have shapes and no memory; only what is computed from the configuration
    is there.
    """
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    llava: Any = model.model
    rotary: Any = type(llava.language_model.rotary_emb)
    llava.language_model.rotary_emb = rotary(config.text_config)
    embeddings = llava.vision_tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))
    return model


def place_tensors(
    model: LlavaForConditionalGeneration,
    checkpoint: Mapping[str, Stored],
    rules: Rules,
    *,
    tower: Callable[[], Mapping[str, Stored]] | None,
) -> dict[str, Stored]:
    """Which stored tensor fills which parameter, by the rules of the checkpoint's layout.

    The vision tower's come from the checkpoint, or all from `tower` where the checkpoint holds none of it.
    Raises WeightsError naming each tensor with no place, each parameter with no tensor, each wrong shape.
    """
    placed, unused = _renamed(checkpoint.values(), rules, beside=())
    if tower and not any(name.startswith(_TOWER) for name in placed):
        from_tower, unused_of_tower = _renamed(tower().values(), FROM_CLIP, beside=_CLIP_BESIDE_THE_TOWER)
        placed |= from_tower
        unused += unused_of_tower
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if model.config.tie_word_embeddings:
        # A tied checkpoint may hold its one matrix under both names.
        wanted.pop("lm_head.weight", None)
        placed.pop("lm_head.weight", None)
    check_fit(wanted, placed, unused=unused)
    return placed


def fill(
    model: LlavaForConditionalGeneration, placed: Mapping[str, Stored], *, dtype: torch.dtype, device: str
) -> None:
    """Put each stored tensor in its parameter's place, in this type, on this device.

    One tensor at a time: besides what the model keeps, host memory holds the one that is being read.
    """
    names = {stored: name for name, stored in placed.items()}
    for stored, tensor in read_tensors(placed.values()):
        path, _, leaf = names[stored].rpartition(".")
        parameter = nn.Parameter(tensor.to(device=device, dtype=dtype))
        setattr(model.get_submodule(path), leaf, parameter)
        del tensor  # or it would wait here, in the type it was stored in, while the next one is read
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.get_input_embeddings().weight
    held = (*model.named_parameters(), *model.named_buffers())
    if empty := [name for name, tensor in held if tensor.is_meta]:
        raise WeightsError(f"want a value for everything the model holds, found none for {', '.join(empty)}")
    model.config.dtype = dtype


def published_name(name: str) -> str:
    """A parameter's name in the files of the published layout. Raises KeyError for one that is none of
    LLaVA's.
    """
    for prefix, published in _TO_PUBLISHED:
        if name.startswith(prefix):
            return published + name.removeprefix(prefix)
    raise KeyError(name)


def _renamed(
    tensors: Iterable[Stored], rules: Rules, *, beside: tuple[str, ...]
) -> tuple[dict[str, Stored], list[Stored]]:
    """Tensors by their parameter's name, and those that no rule names."""
    placed: dict[str, Stored] = {}
    unused = []
    for stored in tensors:
        if stored.name.endswith(COMPUTED) or stored.name.startswith(beside):
            continue
        rule = next((rule for rule in rules if stored.name.startswith(rule[0])), None)
        if rule is None:
            unused.append(stored)
        else:
            placed[rule[1] + stored.name.removeprefix(rule[0])] = stored
    return placed, unused
