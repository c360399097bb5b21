"""LLaVA's JSON → tokens to read and tokens to learn"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import LlavaProcessor

from recap_spark.errors import InputError

IGNORED = -100  # cross_entropy's ignore_index, LLaVA's IGNORE_INDEX

_MARK = "<image>"  # in the JSON's text, whatever the tokenizer calls its own image token
_ROLES = {"human": "user", "gpt": "assistant"}

# b batch, t tokens, s side


@dataclass(frozen=True)
class Turn:
    """What one side says; `pictured` where the picture stands before it."""

    role: str  # user or assistant
    text: str
    pictured: bool


@dataclass(frozen=True)
class Conversation:
    """Turns that alternate from the user's first to the assistant's last, about one picture or none."""

    image: str | None  # below the folder of images
    turns: tuple[Turn, ...]

    @property
    def words(self) -> int:
        """LLaVA's measure of length (`modality_lengths`): costs no tokenizer, and groups as well."""
        return sum(len(turn.text.split()) for turn in self.turns)


@dataclass(frozen=True)
class Example:
    """Tokens of one conversation, and which of them are learned."""

    ids: list[int]
    learned: list[bool]
    pictured: bool  # then `ids` hold one image token for each patch


def read_conversations(path: Path) -> list[Conversation]:
    """Every record of a file in LLaVA's format (train.py, LazySupervisedDataset).

    Raises InputError naming the file and the record that is not of it.
    """
    try:
        records = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: want LLaVA's JSON of conversations: {error}") from error
    if not isinstance(records, list) or not records:
        raise InputError(f"{path}: want a list of conversations, found {type(records).__name__}")
    return [_conversation(record, where=f"{path}: record {number}") for number, record in enumerate(records)]


def _conversation(record: Any, *, where: str) -> Conversation:
    try:
        image = record.get("image")
        said = [(_ROLES[turn["from"]], str(turn["value"])) for turn in record["conversations"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{where}: want `conversations` of turns from human and gpt: {error!r}") from None
    # As LLaVA does: what is said before the first question belongs to no question. And nothing is learned
    # from a question without an answer.
    said = list(dropwhile(lambda turn: turn[0] != "user", said))
    said = said[: len(said) - len(said) % 2]
    if not said or any(role != ("user", "assistant")[place % 2] for place, (role, _) in enumerate(said)):
        raise InputError(f"{where}: want turns by human and gpt in alternation, found {[r for r, _ in said]}")
    marks = [place for place, (_, text) in enumerate(said) if _MARK in text] if image else []
    if image and len(marks) != 1:
        raise InputError(f"{where}: want {_MARK} in one turn, since there is an image, found {len(marks)}")
    # LLaVA moves the mark to the front of its turn (`preprocess_multimodal`). Without an image it is part of
    # somebody's HTML, which the tokenizer would take for a picture.
    turns = tuple(
        Turn(role, _unmarked(text), pictured=place in marks) for place, (role, text) in enumerate(said)
    )
    return Conversation(image=image, turns=turns)


def _unmarked(text: str) -> str:
    return text.replace(_MARK, "").strip() if _MARK in text else text


def tokenise(
    conversation: Conversation,
    *,
    processor: LlavaProcessor,
    patches: int,
    template: Literal["plain", "chat"],
    longest: int,
) -> Example:
    """A conversation as the model reads it, cut at `longest` tokens; answers and their endings are learned.

    `plain` is LLaVA's first stage: the picture, then the caption and a line's end, and no words of a prompt.
    Raises InputError where `plain` is asked of a conversation without a picture.
    """
    pieces = _plain(conversation, processor) if template == "plain" else _chat(conversation, processor)
    ids: list[int] = []
    learned: list[bool] = []
    for text, is_answer in pieces:
        # Piece by piece: in generation, too, the prompt is tokenised without the answer. One tokenisation of
        # both may merge across the border, and then the border is at no token.
        expanded = text.replace(processor.image_token, processor.image_token * patches)
        tokens = processor.tokenizer(expanded, add_special_tokens=False).input_ids
        ids += tokens
        learned += [is_answer] * len(tokens)
    return _cut(Example(ids, learned, conversation.image is not None), processor, patches, longest)


def _plain(conversation: Conversation, processor: LlavaProcessor) -> list[tuple[str, bool]]:
    if conversation.image is None:
        raise InputError("template plain: want a picture in every conversation, found one without")
    begin = processor.tokenizer.bos_token or ""
    # LLaVA, conversation.py `conv_llava_plain`: sep="\n".
    return [(begin + processor.image_token, False), (conversation.turns[1].text + "\n", True)]


def _chat(conversation: Conversation, processor: LlavaProcessor) -> list[tuple[str, bool]]:
    messages: list[Any] = [
        {
            "role": turn.role,
            "content": [*([{"type": "image"}] if turn.pictured else []), {"type": "text", "text": turn.text}],
        }
        for turn in conversation.turns
    ]
    pieces: list[tuple[str, bool]] = []
    done = ""
    for answers in range(1, len(messages), 2):
        before = processor.apply_chat_template(messages[:answers], add_generation_prompt=True)
        whole = processor.apply_chat_template(messages[: answers + 1])
        if not (before.startswith(done) and whole.startswith(before)):
            raise InputError(f"chat template: want a turn to leave those before it, found {whole!r}")
        pieces += [(before.removeprefix(done), False), (whole.removeprefix(before), True)]
        done = whole
    return pieces


def _cut(example: Example, processor: LlavaProcessor, patches: int, longest: int) -> Example:
    if len(example.ids) <= longest:
        return example
    ids, pictured = example.ids[:longest], example.pictured
    image_id = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    if pictured and ids.count(image_id) != patches:
        # A picture is there whole or not at all.
        ids, pictured = ids[: ids.index(image_id)] if image_id in ids else ids, False
    return Example(ids, example.learned[: len(ids)], pictured)


def collate(examples: Sequence[Example], *, pad_id: int) -> dict[str, Tensor]:
    """Examples → input_ids, attention_mask and labels, int64 [B, T], padded on the right."""
    rows = [torch.tensor(example.ids) for example in examples]
    learned = [torch.tensor(example.learned) for example in examples]
    ids_bt = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    learned_bt = nn.utils.rnn.pad_sequence(learned, batch_first=True, padding_value=False)
    lengths_b = torch.tensor([len(row) for row in rows])
    # By place, not by id: where the pad is also an end token, a mask by id would hide the end from the loss.
    real_bt = torch.arange(ids_bt.shape[1]) < lengths_b[:, None]
    return {
        "input_ids": ids_bt,
        "attention_mask": real_bt.long(),
        "labels": ids_bt.masked_fill(~learned_bt, IGNORED),
    }
