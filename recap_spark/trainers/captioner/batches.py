"""conversations + pictures → one process's rows of each step, from any step on"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from recap_spark.errors import InputError
from recap_spark.models.pixels import fit_pixels, to_pixels
from recap_spark.settings.captioner_run import CaptionerRun, ConversationSettings
from recap_spark.trainers.captioner.conversations import Conversation, Example, read_conversations, tokenise
from recap_spark.trainers.captioner.sampling import epoch_batches, share_of
from recap_spark.trainers.distributed import Place

log = logging.getLogger(__name__)

Row = tuple[Example, Tensor | None]
"""What is read and learned, and uint8 [3, S, S] of its picture."""


class _Rows(Dataset[Row]):
    """A conversation and its picture by number; what torch's loader processes hold."""

    def __init__(
        self,
        conversations: list[Conversation],
        *,
        data: ConversationSettings,
        processor: LlavaProcessor,
        patches: int,
        side: int,
    ) -> None:
        self.conversations = conversations
        self.data = data
        self.processor = processor
        self.patches = patches
        self.side = side

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, number: int) -> Row:
        conversation = self.conversations[number]
        example = tokenise(
            conversation,
            processor=self.processor,
            patches=self.patches,
            template=self.data.template,
            longest=self.data.longest,
        )
        if conversation.image is None or not example.pictured:
            return example, None
        return example, self._pixels(Path(self.data.images) / conversation.image)

    def _pixels(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                picture = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: want a picture to learn from: {error}") from error
        if self.data.fit == "crop":
            return fit_pixels(picture, side=self.side)
        red, green, blue = (int(mean * 255) for mean in self.processor.image_processor.image_mean)
        return to_pixels(picture, side=self.side, fill=(red, green, blue))


class Feed:
    """The run's data: which rows each step learns from, on this process."""

    def __init__(
        self,
        run: CaptionerRun,
        *,
        model: LlavaForConditionalGeneration,
        processor: LlavaProcessor,
        place: Place,
    ) -> None:
        vision: Any = model.config.vision_config
        self._run, self._place = run, place
        conversations = read_conversations(Path(run.data.file))
        self._pictured = [conversation.image is not None for conversation in conversations]
        self._lengths = [conversation.words for conversation in conversations]
        patches = model.config.image_seq_length
        self._rows = _Rows(
            conversations, data=run.data, processor=processor, patches=patches, side=vision.image_size
        )
        self._per_epoch = len(self._epoch(0))
        if not self._per_epoch:
            found = f"{len(conversations)} rows"
            raise InputError(f"{run.data.file}: want a batch of {run.batch_size} at least, found {found}")
        self.steps = run.epochs * self._per_epoch
        self.fingerprint = _fingerprint(self._lengths, self._pictured)
        image_id: int = model.config.image_token_id
        # A picture that nothing is learned from, for micro-batches without one.
        self.blank = (
            Example([image_id] * patches, [False] * patches, pictured=True),
            torch.zeros(3, vision.image_size, vision.image_size, dtype=torch.uint8),
        )
        dropped = len(conversations) - self._per_epoch * run.batch_size
        log.info(
            "%s: %d rows, %d steps, %d rows left out an epoch",
            run.name,
            len(conversations),
            self.steps,
            dropped,
        )

    def rows(self, done: int) -> Iterator[list[list[Row]]]:
        """This process's micro-batches of every step from `done` on."""
        run, place = self._run, self._place
        for epoch in range(done // self._per_epoch, run.epochs):
            batches = self._epoch(epoch)[max(0, done - epoch * self._per_epoch) :]
            shares = [
                share_of(
                    batch,
                    self._lengths,
                    rank=place.rank,
                    world=place.world,
                    micro_batch_size=run.micro_batch_size,
                )
                for batch in batches
            ]
            loader: DataLoader[Any] = DataLoader(
                self._rows,
                batch_sampler=[[row for micro in share for row in micro] for share in shares],
                num_workers=run.data.loader_processes,
                collate_fn=list,
                generator=torch.Generator().manual_seed(run.seed),
            )
            for rows in loader:
                size = run.micro_batch_size
                yield [rows[start : start + size] for start in range(0, len(rows), size)]

    def _epoch(self, epoch: int) -> list[list[int]]:
        return epoch_batches(
            self._lengths,
            pictured=self._pictured,
            batch_size=self._run.batch_size,
            pool_batches=self._run.pool_batches,
            seed=self._run.seed,
            epoch=epoch,
        )


def _fingerprint(lengths: list[int], pictured: list[bool]) -> str:
    return hashlib.sha256(json.dumps([lengths, pictured]).encode()).hexdigest()
