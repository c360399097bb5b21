"""What loading a sharded checkpoint adds to a process's memory, beyond the model in its target type

python benchmarks/checkpoint_memory.py [folder]

Makes a checkpoint of made-up weights in the original LLaVA layout (float16, the vision tower in float32, four
shards) and converts it. A new process then loads each layout in bfloat16; its peak resident memory, less what
it held before, is what the load took. The claim: that is at most the model plus 1.3 times the largest shard.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from reporting import print_claim
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

from recap_spark.miniature.original_layout import (
    BEGIN,
    END,
    tensors_of,
    write_config,
    write_shards,
    write_tokenizer,
    write_tower,
)
from recap_spark.settings.loading import load
from recap_spark.settings.schema import CaptionerSettings
from recap_spark.settings.template import Template
from recap_spark.workers.captioning.captioner import CaptionerSpec
from recap_spark.workers.captioning.checkpoint import load_llava, load_processor
from recap_spark.workers.captioning.conversion import convert_captioner

_CONF = Path(__file__).parents[1] / "conf"
SHARDS = 4
TARGET = 1.3
TEMPLATE = Template(name="plain", version=1, text="{{ bos_token }}<image>\n")


def make(folder: Path) -> None:
    """Some 700 MB: a decoder of 12 layers, a vision tower of 12."""
    with torch.device("meta"):
        clip = CLIPModel(
            CLIPConfig(
                vision_config={
                    "hidden_size": 512,
                    "num_hidden_layers": 12,
                    "num_attention_heads": 8,
                    "image_size": 224,
                    "patch_size": 32,
                },
                text_config={
                    "hidden_size": 64,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "vocab_size": 100,
                },
            )
        )
        llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32768,
                hidden_size=1024,
                intermediate_size=3584,
                num_hidden_layers=12,
                num_attention_heads=8,
                num_key_value_heads=2,
                rms_norm_eps=1e-5,
                bos_token_id=BEGIN,
                eos_token_id=END,
            )
        ).half()
        layers = torch.nn.Linear(512, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 1024)
        projector = torch.nn.Sequential(*layers).half()
    for model in (clip, llama, projector):
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            parameter.data.fill_(0.02)  # the values take no part, the pages do
    for name in ("llava", "tokenizer", "tower"):
        (folder / name).mkdir()
    write_config(folder / "llava", llama, clip)
    write_shards(folder / "llava", tensors_of(llama, clip, projector, tower=True), count=SHARDS)
    write_tokenizer(folder / "tokenizer")
    write_tower(folder / "tower", clip, weights=False)


def original(folder: Path) -> CaptionerSettings:
    parts = {"tokenizer": "tokenizer", "vision_tower": "tower"}
    origins = {part: {"model": str(folder / name), "revision": None} for part, name in parts.items()}
    return captioner(model=str(folder / "llava"), parts=origins, template=asdict(TEMPLATE))


def published(folder: Path) -> CaptionerSettings:
    return captioner(model=str(folder / "published"))


def captioner(**changes: object) -> CaptionerSettings:
    """The laptop's, changed."""
    over = [f"caption.captioner.{key}={json.dumps(value)}" for key, value in changes.items()]
    return CaptionerSpec(load(_CONF / "base.yml", _CONF / "laptop.yml", changes=over).caption).captioner


SOURCES = {"original": original, "published": published}


def resident_bytes() -> int:
    """What the process holds now; its peak would hide what loading adds below an earlier peak."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(layout: str, folder: Path) -> None:
    """In a process of its own: load, and say as JSON what it took, in bytes."""
    torch.set_num_threads(1)
    source = SOURCES[layout](folder)
    load_processor(source)  # the libraries themselves, which would count as the model's otherwise
    before = resident_bytes()
    model, _ = load_llava(source, dtype=torch.bfloat16, device="cpu")
    took = peak_bytes() - before
    print(json.dumps({"took": took, "model": sum(p.nbytes for p in model.parameters())}))


def measured(layout: str, folder: Path) -> float:
    """What loading took beyond the model, in largest shards."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", layout, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    held = "llava" if layout == "original" else "published"
    shards = [file.stat().st_size for file in (folder / held).glob("*.safetensors")]
    beyond: float = (said["took"] - said["model"]) / max(shards)
    megabytes = {name: value / 1e6 for name, value in said.items()}
    print(
        f"{layout:10} files {sum(shards) / 1e6:,.0f} MB, largest shard {max(shards) / 1e6:,.0f} MB, "
        f"model {megabytes['model']:,.0f} MB, load took {megabytes['took']:,.0f} MB: "
        f"model + {beyond:.2f} shards"
    )
    return beyond


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        return measure(sys.argv[2], Path(sys.argv[3]))
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as name:
        folder = Path(name)
        make(folder)
        convert_captioner(original(folder), folder / "published")
        worst = max(measured(layout, folder) for layout in SOURCES)
    print_claim("CHECKPOINT_MEMORY", ratio=worst, target=TARGET)
    if worst > TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
