"""a CLIP, a projector and a LLaMA → a checkpoint in the original LLaVA layout, with the parts it leaves out

For tests and benchmarks: the released captioner's layout at any size, with random weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPModel, LlamaForCausalLM, PreTrainedTokenizerFast

from recap_spark.models.pixels import OPENAI_MEAN, OPENAI_STD

BYTES = 256  # words of the tokenizer; the special tokens come after them, as LLaMA-3's after 128,000
SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{n}|>" for n in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{n}|>" for n in range(5, 9)),
)
BEGIN, END, TURN_END = (
    BYTES + SPECIAL_TOKENS.index(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "eot_id")
)
VOCABULARY = BYTES + len(SPECIAL_TOKENS)


def write_tokenizer(folder: Path) -> None:
    """LLaMA-3's tokenizer without its merges: every byte a word, and a text begins by itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens(list(SPECIAL_TOKENS))
    begin, end = SPECIAL_TOKENS[:2]
    words.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, BEGIN)]
    )
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token=begin, eos_token=end).save_pretrained(folder)


def write_tower(folder: Path, clip: CLIPModel, *, weights: bool) -> None:
    """A CLIP's configuration and image processor; its weights where the checkpoint is to lack them."""
    vision: Any = clip.config.vision_config
    side = vision.image_size
    clip.config.save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(OPENAI_MEAN),
        image_std=list(OPENAI_STD),
    ).save_pretrained(folder)
    if weights:
        save_file(_contiguous(clip.state_dict()), folder / "model.safetensors", {"format": "pt"})


def tensors_of(
    llama: LlamaForCausalLM, clip: CLIPModel, projector: nn.Sequential, *, tower: bool
) -> dict[str, Tensor]:
    """The three models' tensors as LLaVA names them, with the position ids that older libraries stored."""
    tensors = dict(llama.state_dict())
    tensors |= {f"model.mm_projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    if tower:
        inside = "model.vision_tower.vision_tower."
        held = {
            name: tensor for name, tensor in clip.state_dict().items() if name.startswith("vision_model.")
        }
        tensors |= {inside + name: tensor for name, tensor in held.items()}
        positions = held["vision_model.embeddings.position_embedding.weight"].shape[0]
        tensors[f"{inside}vision_model.embeddings.position_ids"] = torch.arange(positions)
    return tensors


def write_shards(folder: Path, tensors: Mapping[str, Tensor], *, count: int) -> None:
    """Tensors and their index in `count` files, each with every count-th tensor by name."""
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number in range(count):
        file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        held = {name: tensors[name] for name in names[number::count]}
        save_file(_contiguous(held), folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(held, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_config(folder: Path, llama: LlamaForCausalLM, clip: CLIPModel) -> None:
    """config.json with the keys of the released captioner."""
    decoder = llama.config
    vision: Any = clip.config.vision_config
    config = {
        "_name_or_path": "checkpoints/llava-v1.5-llama3-8b-lora-merged-formated-plus-HQEdit",
        "architectures": ["LlavaLlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "freeze_mm_mlp_adapter": False,
        "hidden_act": "silu",
        "hidden_size": decoder.hidden_size,
        "image_aspect_ratio": "pad",
        "initializer_range": 0.02,
        "intermediate_size": decoder.intermediate_size,
        "max_position_embeddings": decoder.max_position_embeddings,
        "mm_hidden_size": vision.hidden_size,
        "mm_patch_merge_type": "flat",
        "mm_projector_lr": 2e-05,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "model_type": "llava_llama",
        "num_attention_heads": decoder.num_attention_heads,
        "num_hidden_layers": decoder.num_hidden_layers,
        "num_key_value_heads": decoder.num_key_value_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": decoder.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 8192,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "transformers_version": "4.40.0",
        "tune_mm_mlp_adapter": False,
        "use_cache": True,
        "use_mm_proj": True,
        "vocab_size": decoder.vocab_size,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
