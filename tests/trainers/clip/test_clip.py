"""The contrastive trainer, on towers of one layer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from short_runs import SHORT
from tiny_models import clip

from recap_spark.errors import InputError
from recap_spark.miniature.models import BEGIN, PAD, TEXT_END, clip_processor, train_words
from recap_spark.trainers.clip.clip import LARGEST_LOGIT_SCALE, contrastive_loss, train_clip
from recap_spark.trainers.schedules import warmup_then_cosine

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}
PAIRS = [
    (torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1).expand(3, 16, 16), f"a {name} picture")
    for name, rgb in COLOURS.items()
]
SETTINGS = replace(SHORT, steps=40, batch_size=4, peak_rate=5e-3, warmup_steps=4, weight_decay=0.1)


@pytest.fixture(scope="module")
def words():
    return train_words([text for _, text in PAIRS])


@pytest.fixture(scope="module")
def tokenizer(words):
    return clip_processor(words).tokenizer


@pytest.fixture
def model(words):
    text = {
        "vocab_size": words.get_vocab_size(),
        "max_position_embeddings": 12,
        "bos_token_id": words.token_to_id(BEGIN),
        "eos_token_id": words.token_to_id(TEXT_END),
        "pad_token_id": words.token_to_id(PAD),
    }
    return clip(seed=0, vision={}, text=text)


def test_the_loss_falls(model, tokenizer):
    losses = train_clip(PAIRS * 40, model=model, tokenizer=tokenizer, settings=SETTINGS)
    assert losses[-1] < 0.3 * losses[0]


def test_equal_seeds_give_equal_losses(model, tokenizer):
    settings = replace(SETTINGS, steps=3)
    start = {name: weights.clone() for name, weights in model.state_dict().items()}
    first = train_clip(PAIRS * 3, model=model, tokenizer=tokenizer, settings=settings)
    model.load_state_dict(start)
    assert train_clip(PAIRS * 3, model=model, tokenizer=tokenizer, settings=settings) == first


def test_the_temperature_stays_within_ln_100(model, tokenizer):
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    train_clip(PAIRS, model=model, tokenizer=tokenizer, settings=replace(SETTINGS, steps=1))
    assert model.logit_scale.item() == pytest.approx(LARGEST_LOGIT_SCALE)


def test_a_text_longer_than_the_tower_is_cut(model, tokenizer):
    pairs = [(pixels, text * 50) for pixels, text in PAIRS]
    losses = train_clip(pairs, model=model, tokenizer=tokenizer, settings=replace(SETTINGS, steps=1))
    assert math.isfinite(losses[0])


def test_the_loss_is_transformers_own(model, tokenizer):
    pixel_values = torch.rand(4, 3, 16, 16)
    words = tokenizer([text for _, text in PAIRS], padding=True, return_tensors="pt")
    theirs = model(pixel_values=pixel_values, **words, return_loss=True)
    ours = contrastive_loss(
        model.get_image_features(pixel_values=pixel_values).pooler_output,
        model.get_text_features(**words).pooler_output,
        logit_scale=model.logit_scale,
    )
    assert ours.item() == pytest.approx(theirs.loss.item(), abs=1e-5)


def test_pairs_that_end_early_are_an_error_that_counts_the_steps(model, tokenizer):
    with pytest.raises(InputError, match="after 1 of 40 steps"):
        train_clip(PAIRS, model=model, tokenizer=tokenizer, settings=SETTINGS)


def test_the_rate_rises_straight_and_falls_as_a_cosine():
    share = warmup_then_cosine(steps=110, warmup_steps=10)
    assert [share(0), share(4), share(9)] == pytest.approx([0.1, 0.5, 1.0])
    assert share(60) == pytest.approx(0.5)
    assert share(110) == pytest.approx(0.0)
