"""Prepared images → rows of captions, by either engine"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from recap_spark.statuses import CaptionStatus, FinishReason
from recap_spark.workers.captioning.captioner import Captioner, Prepared
from recap_spark.workers.partition import chunks
from recap_spark.workers.rows import Row

if TYPE_CHECKING:  # the driver names these functions without torch; only workers run them
    from recap_spark.models.llava.generation import Generated
    from recap_spark.models.llava.scheduler import Picture

CAPTIONED = pa.schema(
    [
        ("uid", pa.string()),
        ("captioner", pa.string()),
        ("status", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens", pa.int32()),
        ("caption", pa.string()),
    ]
)


def stream_captions(
    captioner: Captioner, images: Iterator[Prepared], *, key: str
) -> Iterator[pa.RecordBatch]:
    """One row of CAPTIONED for every image, by the captioner's engine; `key` is the captioner's key in the
    table.

    Engine slots takes images as its slots become free, and its rows come in the order in which captions end.
    """
    if captioner.engine is None:
        for some in chunks(images, captioner.spec.batch_size):
            yield answer_captions(captioner, some, key=key)
        return
    unreadable: list[Row] = []
    captions = captioner.engine.generate(_pictures(captioner, images, unreadable, key=key))
    for ended in chunks(captions, captioner.spec.batch_size):
        rows = [_row(uid, key) | _said(captioner, caption) for uid, caption in ended]
        yield pa.RecordBatch.from_pylist(rows, schema=CAPTIONED)
    if unreadable:
        yield pa.RecordBatch.from_pylist(unreadable, schema=CAPTIONED)


def engine_uid(image: Prepared) -> str | None:
    """The uid of an image that goes to the engine; None for one without pixels, which never does."""
    return None if image.pixels is None else image.uid


def poison_row(uid: str, *, key: str) -> Row:
    """The row of an image that must not go to the engine again."""
    return _row(uid, key) | {"status": str(CaptionStatus.POISON)}


def _pictures(
    captioner: Captioner, images: Iterator[Prepared], unreadable: list[Row], *, key: str
) -> Iterator[Picture[str]]:
    """The images that have pixels; rows for the others go into `unreadable`."""
    from recap_spark.models.llava.scheduler import Picture

    for image in images:
        if image.pixels is None:
            unreadable.append(_row(image.uid, key) | {"status": str(image.status)})
        else:
            yield Picture(image.uid, image.pixels, captioner.spec.captioner.max_new_tokens)


def answer_captions(captioner: Captioner, images: list[Prepared], *, key: str) -> pa.RecordBatch:
    """One row of CAPTIONED for every image, in order, by transformers' generate."""
    import torch

    from recap_spark.models.llava.generation import generate_greedily
    from recap_spark.models.pixels import normalise

    pixels = [image.pixels for image in images if image.pixels is not None]
    captions: list[Row] = []
    if pixels:
        batch = torch.stack(pixels).to(captioner.model.device)
        generated = generate_greedily(
            captioner.model,
            normalise(batch, mean=captioner.mean, std=captioner.std),
            captioner.prompt_ids,
            max_new_tokens=captioner.spec.captioner.max_new_tokens,
            stop_ids=captioner.stop_ids,
        )
        captions = [_said(captioner, caption) for caption in generated]
    answers = iter(captions)
    rows = [
        _row(image.uid, key) | (next(answers) if image.pixels is not None else {"status": str(image.status)})
        for image in images
    ]
    return pa.RecordBatch.from_pylist(rows, schema=CAPTIONED)


def _row(uid: str, key: str) -> Row:
    return {"uid": uid, "captioner": key}


def _said(captioner: Captioner, caption: Generated) -> Row:
    text = captioner.tokenizer.decode(caption.tokens, skip_special_tokens=True).strip()
    finish = FinishReason.STOP if caption.stopped else FinishReason.LENGTH
    return {
        "status": str(CaptionStatus.OK if text else CaptionStatus.EMPTY_CAPTION),
        "finish_reason": str(finish),
        "tokens": len(caption.tokens) + caption.stopped,
        "caption": text or None,
    }
