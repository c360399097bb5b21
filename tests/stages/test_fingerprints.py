"""The keys that captions and scores are kept under stay what they were: other keys make them all again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from laptop import captioner, endpoint, laptop, with_captioner

from recap_spark.stages.score import scorer_spec
from recap_spark.workers.captioning.engines import describe
from recap_spark.workers.weights import folder_sha256, weights_sha256


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder like a model's, by a path that is the same in every run."""
    monkeypatch.chdir(tmp_path)
    folder = Path("model")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llava"}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return "model"


def test_a_published_captioner_keeps_its_key(model):
    changes = {"model": model, "prompt": "Say.", "max_new_tokens": 9}
    assert describe(with_captioner(captioner(), **changes))["fingerprint"] == (
        "7c705fbf1e4ee3d09e2e3a57142b12a97cf243a5abe518797a21e45dc32668a5"
    )


def test_a_captioner_of_parts_keeps_the_fingerprint_of_all_that_it_is_made_of(tmp_path, monkeypatch):
    from tiny_checkpoint import TEMPLATE, make  # here, since torch and transformers take seconds

    monkeypatch.chdir(tmp_path)
    made = make(Path(), tower="beside it")
    held = {"tokenizer": "tokenizer", "vision_tower": "tower"}
    parts = {
        name: {"model": folder, "revision": None, "sha256": folder_sha256(folder)}
        for name, folder in held.items()
    }
    made_by = {
        "chat_template": TEMPLATE.text.replace("<image>", "<|reserved_special_token_8|>"),
        "decoding": '{"strategy": "greedy", "max_new_tokens": 8}',
        "dtype": "float32",
        "model": "llava",
        "parts": json.dumps(parts),
        "prompt": "Say.",
        "revision": None,
        "template": "tiny@3",
        "weights_sha256": weights_sha256("llava"),
    }
    fingerprint = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()
    assert describe(made.spec) == made_by | {
        "captioner": f"tiny-{fingerprint[:12]}",
        "fingerprint": fingerprint,
    }


def test_an_endpoint_s_captioner_keeps_its_key():
    assert describe(endpoint(captioner="endpoint", captioner__revision="of spring"))["fingerprint"] == (
        "999833cd7c3b5adb9c7f0dddc1775d978678f90d2e5edb85e50735a7ed86af70"
    )


def test_a_served_captioner_keeps_its_key(model):
    assert describe(endpoint(captioner__model=model))["fingerprint"] == (
        "2f395a02af0b3d216e3b9cf1ad5d9ee175fec0bee8dda27dc9127b5989078eeb"
    )


def test_a_scorer_keeps_its_name(model):
    score = laptop(score__scorer__model=model).score
    assert scorer_spec(score).name == "miniature-d6b45af26eb7"
