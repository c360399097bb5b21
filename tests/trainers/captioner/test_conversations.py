"""LLaVA's conversations become tokens of which the answers, and nothing else, are learned."""

from __future__ import annotations

import json

import pytest

from recap_spark.errors import InputError
from recap_spark.miniature.models import ASSISTANT, BEGIN, IMAGE, TURN_END, USER
from recap_spark.trainers.captioner.conversations import (
    IGNORED,
    Conversation,
    Turn,
    collate,
    read_conversations,
    tokenise,
)

PATCHES = 4


def read(folder, *records):
    path = folder / "conversations.json"
    path.write_text(json.dumps(records))
    return read_conversations(path)


def talk(*turns, **also):
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **also}


def learn(conversation, processor, *, template="chat", longest=1000):
    return tokenise(conversation, processor=processor, patches=PATCHES, template=template, longest=longest)


def learned_text(example, processor):
    """The learned tokens in runs, as text."""
    runs, last = [], False
    for token, is_learned in zip(example.ids, example.learned, strict=True):
        if is_learned:
            runs = [*runs[:-1], [*runs[-1], token]] if last else [*runs, [token]]
        last = is_learned
    return [processor.tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("asked", ["<image>\nWhat is it?", "What is it?\n<image>", "What is it? <image> "])
def test_the_picture_stands_before_the_words_of_its_turn_wherever_the_mark_was(tmp_path, asked):
    (found,) = read(tmp_path, talk(("human", asked), ("gpt", "A cat."), image="a.jpg"))
    assert found.image == "a.jpg"
    assert found.turns == (Turn("user", "What is it?", True), Turn("assistant", "A cat.", False))


def test_a_mark_without_an_image_is_somebody_s_html(tmp_path, processor):
    (found,) = read(tmp_path, talk(("human", "Why does <image> not show?"), ("gpt", "It is <img>.")))
    image_id = processor.tokenizer.convert_tokens_to_ids(IMAGE)
    assert image_id not in learn(found, processor).ids


def test_what_comes_before_the_first_question_and_after_the_last_answer_is_left_out(tmp_path):
    turns = [("gpt", "Hello"), ("human", "One?"), ("gpt", "Two."), ("human", "And?")]
    (found,) = read(tmp_path, talk(*turns))
    assert [turn.text for turn in found.turns] == ["One?", "Two."]


@pytest.mark.parametrize(
    "record",
    [
        talk(("human", "a"), ("human", "b")),
        talk(("human", "a"), ("robot", "b")),
        talk(("gpt", "a")),
        talk(("human", "no mark"), ("gpt", "b"), image="a.jpg"),
        talk(("human", "<image>"), ("gpt", "b"), ("human", "<image>"), ("gpt", "c"), image="a.jpg"),
        {"text": "a"},
        "a",
    ],
)
def test_a_record_of_another_form_is_an_error_with_its_number(tmp_path, record):
    with pytest.raises(InputError, match=r"conversations\.json: record 1: want"):
        read(tmp_path, talk(("human", "a"), ("gpt", "b")), record)


def test_every_answer_of_a_conversation_is_learned_with_its_ending(tmp_path, processor):
    turns = [("human", "<image>\nWhat?"), ("gpt", "A red picture"), ("human", "Count."), ("gpt", "one two")]
    (found,) = read(tmp_path, talk(*turns, image="a.jpg"))
    example = learn(found, processor)
    assert learned_text(example, processor) == [f"A red picture{TURN_END}", f"one two{TURN_END}"]
    assert example.pictured
    whole = f"{BEGIN}{USER}{IMAGE * PATCHES}\nWhat?{TURN_END}{ASSISTANT}A red picture{TURN_END}"
    whole += f"{USER}Count.{TURN_END}{ASSISTANT}one two{TURN_END}"
    assert processor.tokenizer.decode(example.ids) == whole


def test_the_plain_template_is_the_picture_and_its_caption_alone(tmp_path, processor):
    (found,) = read(tmp_path, talk(("human", "Describe it.\n<image>"), ("gpt", "a cat"), image="a.jpg"))
    example = learn(found, processor, template="plain")
    assert processor.tokenizer.decode(example.ids) == f"{BEGIN}{IMAGE * PATCHES}a cat\n"
    assert learned_text(example, processor) == ["a cat\n"]


def test_plain_without_a_picture_is_an_error(processor):
    wordy = Conversation(None, (Turn("user", "a", False), Turn("assistant", "b", False)))
    with pytest.raises(InputError, match="want a picture in every conversation"):
        learn(wordy, processor, template="plain")


def test_a_long_conversation_is_cut_but_a_picture_never_is(tmp_path, processor):
    turns = [("human", "Count."), ("gpt", "one two"), ("human", "<image>\nWhat?"), ("gpt", "A red picture")]
    (found,) = read(tmp_path, talk(*turns, image="a.jpg"))
    image_id = processor.tokenizer.convert_tokens_to_ids(IMAGE)
    whole = learn(found, processor)
    first = whole.ids.index(image_id)
    for longest in range(1, len(whole.ids) + 1):
        example = learn(found, processor, longest=longest)
        assert len(example.ids) == len(example.learned) <= longest
        assert example.ids.count(image_id) == (PATCHES if example.pictured else 0)
        assert example.pictured == (longest >= first + PATCHES)
        assert example.ids == whole.ids[: len(example.ids)]


def test_padding_is_on_the_right_and_never_learned(tmp_path, processor):
    talks = read(tmp_path, talk(("human", "a"), ("gpt", "b")), talk(("human", "a"), ("gpt", "one two three")))
    examples = [learn(one, processor) for one in talks]
    batch = collate(examples, pad_id=processor.tokenizer.pad_token_id)
    for row, example in enumerate(examples):
        length = len(example.ids)
        assert batch["input_ids"][row, :length].tolist() == example.ids
        assert batch["attention_mask"][row].sum() == length
        assert (batch["labels"][row, length:] == IGNORED).all()
        labels = batch["labels"][row, :length]
        assert labels[labels != IGNORED].tolist() == [
            token for token, is_learned in zip(example.ids, example.learned, strict=True) if is_learned
        ]
