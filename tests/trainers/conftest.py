from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import decoder, llava, tower
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from recap_spark.miniature.models import (
    IMAGE,
    PAD,
    SIDE,
    TEXT_END,
    TURN_END,
    captioner_processor,
    train_words,
)
from recap_spark.settings.captioner_run import CaptionerRun, PartsSettings
from recap_spark.settings.prompt import PROMPT

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200), "white": (250, 250, 250)}


def says(*turns: str) -> list[dict[str, str]]:
    """LLaVA's turns, the human's first."""
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(turns)]


@pytest.fixture(scope="session")
def conversations() -> list[dict[str, object]]:
    """Ten about a picture, some of two questions, and six without; answers of very different length."""
    records: list[dict[str, object]] = []
    for place in range(10):
        colour = list(COLOURS)[place % 4]
        turns = [f"<image>\n{PROMPT}", f"A {colour} picture" + ", as plain as can be" * (place % 3)]
        turns += ["What colour is it?", f"It is {colour}."] if place % 2 else []
        records.append({"id": str(place), "image": f"{colour}.png", "conversations": says(*turns)})
    for place in range(6):
        records.append({"id": f"t{place}", "conversations": says("Count.", "one two three " * (place + 1))})
    return records


@pytest.fixture(scope="session")
def words(conversations):
    texts = [turn["value"] for record in conversations for turn in record["conversations"]]
    return train_words([PROMPT, *texts])


@pytest.fixture(scope="session")
def processor(words):
    return captioner_processor(words)


@pytest.fixture(scope="session")
def tiny_captioner() -> Callable[[Tokenizer], LlavaForConditionalGeneration]:
    """Makes a captioner of some ten thousand weights for its words, the same each time."""
    return _tiny_captioner


def _tiny_captioner(words: Tokenizer) -> LlavaForConditionalGeneration:
    text = decoder(
        words.get_vocab_size(),
        num_key_value_heads=1,
        max_position_embeddings=256,
        pad_token_id=words.token_to_id(PAD),
    )
    image = words.token_to_id(IMAGE)
    model = llava(tower(image_size=SIDE), text, image_token_index=image, image_seq_length=64)
    model.generation_config.eos_token_id = [words.token_to_id(TEXT_END), words.token_to_id(TURN_END)]
    return model


@pytest.fixture(scope="session")
def school(tmp_path_factory, tiny_captioner, words, processor, conversations) -> Path:
    """A folder with a tiny captioner, pictures, and conversations about them."""
    folder: Path = tmp_path_factory.mktemp("school")
    tiny_captioner(words).save_pretrained(folder / "start")
    processor.save_pretrained(folder / "start")
    (folder / "images").mkdir()
    for name, rgb in COLOURS.items():
        Image.new("RGB", (40, 30), rgb).save(folder / "images" / f"{name}.png")
    (folder / "conversations.json").write_text(json.dumps(conversations))
    return folder


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory) -> str:
    """One MLflow for all runs: a new database costs seconds of migrations."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def run(school, tmp_path, tracking_uri) -> CaptionerRun:
    """Two epochs of four steps over four rows."""
    return CaptionerRun.model_validate(
        {
            "name": "tiny",
            "folder": str(tmp_path / "run"),
            "seed": 1,
            "device": "cpu",
            "start": str(school / "start"),
            "trains": "projector_and_decoder",
            "lora": None,
            "data": {
                "file": str(school / "conversations.json"),
                "images": str(school / "images"),
                "template": "chat",
                "fit": "pad",
                "longest": 256,
                "loader_processes": 0,
            },
            "epochs": 2,
            "batch_size": 4,
            "micro_batch_size": 2,
            "pool_batches": 2,
            "peak_rate": 1e-2,
            "projector_rate": 1e-2,
            "warmup_share": 0.1,
            "weight_decay": 0.0,
            "beta2": 0.999,
            "clip_norm": 1.0,
            "precision": "float32",
            "gradient_checkpointing": True,
            "checkpoint_every": 3,
            "checkpoints_kept": 3,
            "saved_dtype": "float32",
            "log_every": 1,
            "spark_processes": 2,
            "tracking": {"uri": tracking_uri, "experiment": "tests"},
        }
    )


LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def saved_parts(folder: Path, specials: list[str]) -> PartsSettings:
    """A tower and a decoder with LLaMA-3's special tokens, each in its own folder."""
    torch.manual_seed(0)
    CLIPVisionModel(tower()).save_pretrained(folder / "tower")
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder / "tower"
    )
    bytes_of_text = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    words = Tokenizer(models.BPE(vocab=bytes_of_text, merges=[]))
    words.pre_tokenizer, words.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    words.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=specials[0], eos_token=specials[1])
    tokenizer.save_pretrained(folder / "decoder")
    config = decoder(len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    LlamaForCausalLM(config).save_pretrained(folder / "decoder")
    return PartsSettings(
        vision_tower=str(folder / "tower"),
        vision_revision=None,
        decoder=str(folder / "decoder"),
        decoder_revision=None,
    )


@pytest.fixture(scope="session")
def save_parts():
    return saved_parts


@pytest.fixture(scope="session")
def parts(tmp_path_factory) -> PartsSettings:
    return saved_parts(tmp_path_factory.mktemp("parts"), LLAMA3)
