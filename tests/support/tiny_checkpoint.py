"""A LLaVA of some thousand weights, written in the original layout"""

from dataclasses import asdict, dataclass
from pathlib import Path

import tiny_models
import torch
from laptop import captioner
from safetensors.torch import load_file
from torch import nn
from transformers import (
    CLIPModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from recap_spark.miniature.original_layout import (
    BEGIN,
    END,
    VOCABULARY,
    tensors_of,
    write_config,
    write_shards,
    write_tokenizer,
    write_tower,
)
from recap_spark.settings.template import Template
from recap_spark.workers.captioning.captioner import CaptionerSpec

SIDE, PATCH = 28, 14
TEMPLATE = Template(
    name="tiny",
    version=3,
    text="{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{{ '<image>\\n' if part['type'] == 'image' else part['text'] }}{% endfor %}<|eot_id|>{% endfor %}",
)


@dataclass(frozen=True)
class Made:
    """A checkpoint on the disk and the three models it was made of."""

    spec: CaptionerSpec
    folder: Path
    llama: LlamaForCausalLM
    clip: CLIPModel
    projector: nn.Sequential


def make(folder: Path, *, tower: str) -> Made:
    """`tower` says where the vision tower's weights are: in the checkpoint, or beside it."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    clip = tiny_models.clip(
        seed=5,
        vision=vision | {"image_size": SIDE, "patch_size": PATCH},
        text={"vocab_size": 40, "intermediate_size": 16},
    ).eval()
    llama = LlamaForCausalLM(
        tiny_models.decoder(
            VOCABULARY,
            hidden_size=48,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
            bos_token_id=BEGIN,
            eos_token_id=END,
        )
    ).eval()
    projector = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 48))
    for name in ("llava", "tokenizer", "tower"):
        (folder / name).mkdir()
    write_config(folder / "llava", llama, clip)
    inside = tower == "in the checkpoint"
    write_shards(folder / "llava", tensors_of(llama, clip, projector, tower=inside), count=4)
    write_tokenizer(folder / "tokenizer")
    write_tower(folder / "tower", clip, weights=not inside)
    spec = captioner(
        batch_size=2,
        slots=3,
        prefill_batch=2,
        captioner__name="tiny",
        captioner__model=str(folder / "llava"),
        captioner__parts={
            "tokenizer": {"model": str(folder / "tokenizer"), "revision": None},
            "vision_tower": {"model": str(folder / "tower"), "revision": None},
        },
        captioner__template=asdict(TEMPLATE),
        captioner__prompt="Say.",
        captioner__max_new_tokens=8,
        captioner__engine="generate",
    )
    return Made(spec, folder / "llava", llama, clip, projector)


def rewrite(made: Made, change) -> None:
    """The checkpoint's tensors as `change` leaves them, in new shards."""
    tensors = {}
    for file in sorted(made.folder.glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    change(tensors)
    write_shards(made.folder, tensors, count=3)


@torch.inference_mode()
def logits(model: LlavaForConditionalGeneration, ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits


def some_pixels() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
