"""The captioner's stages, on a LLaVA of some ten thousand weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from short_runs import SHORT

from recap_spark.errors import InputError
from recap_spark.miniature.models import SIDE, TURN_END, captioner_processor, train_words
from recap_spark.settings.prompt import PROMPT
from recap_spark.trainers.captioner.captioner import (
    Prompt,
    Stage,
    Trains,
    answer_batch,
    train_stage,
)
from recap_spark.trainers.captioner.conversations import IGNORED

PAIRS = [
    (torch.full((3, SIDE, SIDE), 250, dtype=torch.uint8), "A white picture."),
    (
        torch.full((3, SIDE, SIDE), 5, dtype=torch.uint8),
        "A black picture, as dark as a night without a moon.",
    ),
]

STAGE = Stage(name="stage", trains=Trains.PROJECTOR_AND_DECODER, optimisation=SHORT)


@pytest.fixture(scope="module")
def words():
    return train_words([PROMPT, *(caption for _, caption in PAIRS)])


@pytest.fixture(scope="module")
def processor(words):
    return captioner_processor(words)


@pytest.fixture
def model(tiny_captioner, words):
    return tiny_captioner(words)


def changed(model, *, before):
    """Which of the three parts have other weights than before."""
    after = model.state_dict()
    moved = {name for name, weights in before.items() if not torch.equal(weights, after[name])}
    parts = {"vision_tower": set(), "multi_modal_projector": set(), "decoder": set()}
    for name in before:
        part = next((part for part in parts if part in name), "decoder")
        parts[part].add(name)
    return {part for part, names in parts.items() if names & moved}


def copied(model):
    return {name: weights.clone() for name, weights in model.state_dict().items()}


@pytest.mark.parametrize(
    ("trains", "parts"),
    [
        (Trains.PROJECTOR, {"multi_modal_projector"}),
        (Trains.PROJECTOR_AND_DECODER, {"multi_modal_projector", "decoder"}),
        (Trains.DECODER, {"decoder"}),
    ],
)
def test_a_stage_changes_what_it_trains_and_the_vision_tower_never(model, processor, trains, parts):
    before = copied(model)
    train_stage(PAIRS * 3, model=model, processor=processor, stage=replace(STAGE, trains=trains))
    assert changed(model, before=before) == parts


def test_a_stage_after_another_opens_and_freezes_anew(model, processor):
    train_stage(PAIRS * 3, model=model, processor=processor, stage=STAGE)
    before = copied(model)
    stage = replace(STAGE, trains=Trains.PROJECTOR)
    train_stage(PAIRS * 3, model=model, processor=processor, stage=stage)
    assert changed(model, before=before) == {"multi_modal_projector"}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_loss_falls(model, processor, precision):
    stage = replace(STAGE, optimisation=replace(SHORT, steps=12, warmup_steps=2, precision=precision))
    losses = train_stage(PAIRS * 12, model=model, processor=processor, stage=stage)
    assert len(losses) == 12
    assert losses[-1] < 0.8 * losses[0]
    assert next(model.parameters()).dtype == torch.float32


def test_equal_seeds_give_equal_losses(model, processor):
    start = copied(model)
    first = train_stage(PAIRS * 3, model=model, processor=processor, stage=STAGE)
    model.load_state_dict(start)
    assert train_stage(PAIRS * 3, model=model, processor=processor, stage=STAGE) == first


def test_labels_are_the_caption_and_its_ending_and_nothing_else(model, processor):
    prompt = Prompt.of(model, processor)
    inputs = answer_batch(PAIRS, prompt=prompt, processor=processor, device=model.device)
    for labels, (_, caption) in zip(inputs["labels"], PAIRS, strict=True):
        assert processor.tokenizer.decode(labels[labels != IGNORED]) == caption + TURN_END
    assert (inputs["labels"][:, : len(prompt.ids)] == IGNORED).all()
    assert inputs["pixel_values"].shape == (2, 3, SIDE, SIDE)


def test_the_loss_does_not_see_the_prompt(model, processor):
    prompt = Prompt.of(model, processor)
    inputs = answer_batch(PAIRS, prompt=prompt, processor=processor, device=model.device)
    logits = model(**inputs).logits[:, :-1]
    labels = inputs["labels"][:, 1:]
    by_hand = torch.nn.functional.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED])
    assert model(**inputs).loss.item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_the_prompt_is_what_the_processor_makes_of_the_same_turn(model, processor):
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    picture = PAIRS[0][0]
    theirs = processor(text=[text], images=[picture], return_tensors="pt")
    assert theirs.input_ids[0].tolist() == list(Prompt.of(model, processor).ids)
    assert theirs.input_ids[0].tolist().count(processor.tokenizer.bos_token_id) == 1


def test_a_template_that_says_more_before_the_caption_is_refused(model, words):
    processor = captioner_processor(words)
    processor.chat_template = processor.chat_template.replace("'<|assistant|>'", "'<|assistant|>Well, '")
    with pytest.raises(InputError, match="right after"):
        Prompt.of(model, processor)


def test_pairs_that_end_early_are_an_error_that_counts_the_steps(model, processor):
    with pytest.raises(InputError, match="after 2 of 3 steps"):
        train_stage(PAIRS * 2, model=model, processor=processor, stage=STAGE)
