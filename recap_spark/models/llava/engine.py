"""A stream of pictures → their captions, each slot refilled as soon as its caption ends

Prompts are read a few at a time, apart from decoding, and one step decodes all slots (continuous batching:
Orca, OSDI 2022). All prompts are equally long, so nothing is padded. Answers come as captions end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch.nn.functional import embedding

from recap_spark.errors import PlatformError
from recap_spark.models.llava.decoder import read_beginning, read_decoder, read_prompts
from recap_spark.models.llava.generation import Generated, until_stop
from recap_spark.models.llava.graphs import GraphedStep, graph_size
from recap_spark.models.llava.scheduler import Picture, Scheduler
from recap_spark.models.llava.slots import (
    Memory,
    Slots,
    fill,
    move,
    new_slots,
    prefill_bytes,
    slot_bytes,
    slots_that_fit,
    step,
)
from recap_spark.models.llava.vision import image_embeds, read_vision, split_prompt
from recap_spark.models.pixels import normalise

R = TypeVar("R")
Step = Callable[[int, int], None]  # of the number of slots, and of the positions that any of them reaches

_log = logging.getLogger(__name__)

# b pictures, q positions from the image on, e embedding


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """How much an engine does at once."""

    max_new_tokens: int
    slots: int  # at most; fewer where memory holds fewer
    prefill_batch: int  # prompts read at once
    memory_bytes: int | None  # beside the weights; None: what is free on the GPU
    float8_linears: bool


class SlotEngine:
    """Greedy generation for one prompt, on a LlavaForConditionalGeneration's own weights.

    Raises WeightsError where model or prompt are not what it can run. Its sizes shrink when memory runs out,
    and stay so.
    """

    def __init__(
        self,
        model: Any,
        prompt: list[int],
        *,
        stop_ids: frozenset[int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        limits: EngineLimits,
    ) -> None:
        before, after = split_prompt(model, prompt)
        self._vision, self._limits = read_vision(model), limits
        self._positions = len(prompt) + limits.max_new_tokens
        self._prompt_tokens, self._device = len(prompt), model.device
        self._normal = partial(normalise, mean=mean, std=std)
        self._stops = torch.tensor(sorted(stop_ids), device=model.device)
        self._stop_ids = stop_ids
        self._decoder = read_decoder(model, positions=self._positions, float8=limits.float8_linears)
        # Keys of a shared beginning spare products; a GPU that reads prompts whole spares copies of them.
        shared, own = (before[:0], before) if self._decoder.fused else (before, before[:0])
        with torch.inference_mode():
            self._beginning = read_beginning(self._decoder, shared)
            self._opening_qe = embedding(own, self._decoder.embedding_ve)
            self._ending_qe = embedding(after, self._decoder.embedding_ve)
        self._prompt_bytes = prefill_bytes(
            self._decoder, positions=len(prompt), intermediate=model.config.text_config.intermediate_size
        )
        self.memory = Memory(model.device, limits.memory_bytes)
        self.prefill_batch = min(limits.prefill_batch, limits.slots)
        self.slots: Slots | None = None  # from the first picture on, when all weights are in place
        self._slots_wanted: int | None = None
        self._step: Step | None = None

    def generate(self, pictures: Iterable[Picture[R]]) -> Iterator[tuple[R, Generated]]:
        """A caption for every picture. Pictures are drawn as slots fall free, a `prefill_batch` at a time.

        Where memory runs out, what did not fit is halved, the pictures concerned begin again, and a warning
        says so. Raises PlatformError where not even one picture in one slot fits.
        """
        with torch.inference_mode(), self._on_device():
            slots = self.slots or self._allocate()
        run = Scheduler(pictures, slots=slots.count)
        while True:
            # Entered anew for each step: both are the thread's, and between answers it is the caller's.
            with torch.inference_mode(), self._on_device():
                self._refill(run)
                if not run.live:
                    return
                self._close_up(run)
                answers = self._decode(run)
            yield from answers

    def _refill(self, run: Scheduler[R]) -> None:
        while pictures := run.draw(self.prefill_batch):
            if _fits(partial(self._read, run, pictures)):
                continue
            run.put_back(pictures)
            if self.prefill_batch > 1:
                self.prefill_batch //= 2
                _log.warning("out of memory: %d prompts at once from here on", self.prefill_batch)
            else:
                self._halve_slots(run)

    def _read(self, run: Scheduler[R], pictures: list[Picture[R]]) -> None:
        assert self.slots is not None
        self.memory.check(len(pictures) * self._prompt_bytes)
        longest = [picture.longest for picture in pictures]
        if max(longest) > self._limits.max_new_tokens:
            raise ValueError(f"want at most {self._limits.max_new_tokens} new tokens, found {max(longest)}")
        pixels = torch.stack([picture.pixels for picture in pictures]).to(self._device)
        seen_bne = image_embeds(self._vision, self._normal(pixels))
        around = (text_qe.expand(len(pictures), -1, -1) for text_qe in (self._opening_qe, self._ending_qe))
        opening_bqe, ending_bqe = around
        embeds_bqe = torch.cat((opening_bqe, seen_bne, ending_bqe), dim=1)
        logits, filled = read_prompts(self._decoder, embeds_bqe, self._beginning)
        fill(
            self.slots,
            torch.tensor(run.next_free(len(pictures)), device=self._device),
            filled,
            tokens=logits.argmax(dim=-1),
            limits=torch.tensor(longest, device=self._device),
            stops=self._stops,
        )
        run.occupy(pictures)

    def _close_up(self, run: Scheduler[R]) -> None:
        """When no picture comes any more, let the last ones share a smaller step."""
        assert self.slots is not None
        if run.drained and self._decoded(len(run.live)) < self._decoded(run.rows):
            move(self.slots, run.close_up())

    def _decoded(self, rows: int) -> int:
        """How many slots a step over the first `rows` computes."""
        assert self.slots is not None
        return graph_size(rows, slots=self.slots.count) if self._device.type == "cuda" else rows

    def _decode(self, run: Scheduler[R]) -> list[tuple[R, Generated]]:
        assert self.slots is not None
        assert self._step is not None
        if not _fits(partial(self._step, run.rows, self._prompt_tokens + run.oldest + 1)):
            self._halve_slots(run)
            return []
        run.passed()
        finished = self.slots.finished_s.tolist()
        ended = [slot for slot in run.live if finished[slot]]
        if not ended:
            return []
        said = self.slots.said_sm[torch.tensor(ended, device=self._device)].tolist()
        return [self._answer(run.vacate(slot), tokens) for slot, tokens in zip(ended, said, strict=True)]

    def _answer(self, picture: Picture[R], tokens: list[int]) -> tuple[R, Generated]:
        return picture.row, until_stop(tokens[: picture.longest], self._stop_ids)

    def _allocate(self) -> Slots:
        if self._slots_wanted is None:
            self._slots_wanted = slots_that_fit(
                most=self._limits.slots,
                free_bytes=self.memory.free_bytes(),
                one_slot_bytes=slot_bytes(self._decoder, positions=self._positions),
                aside_bytes=self.prefill_batch * self._prompt_bytes,
            )
            _log.info("captioner: %d slots, %d prompts at once", self._slots_wanted, self.prefill_batch)
        while not _fits(partial(self._new_slots, self._slots_wanted)):
            self._slots_wanted = self._half(self._slots_wanted)
        assert self.slots is not None
        return self.slots

    def _new_slots(self, count: int) -> None:
        self.memory.hold(count * slot_bytes(self._decoder, positions=self._positions))
        slots = new_slots(
            self._decoder,
            count=count,
            positions=self._positions,
            beginning=self._beginning,
            prompt_tokens=self._prompt_tokens,
        )
        self.slots, self._step = slots, self._stepping(slots)

    def _stepping(self, slots: Slots) -> Step:
        """How these slots are decoded: from CUDA graphs on a GPU, which cannot follow the reach."""
        eager = partial(step, self._decoder, slots, self._stops)
        if self._device.type != "cuda":
            return lambda rows, reach: eager(rows=rows, reach=reach)
        # No way back from here to the engine: a cycle would keep a dropped one's memory until Python looks.
        graphed = GraphedStep(
            step=partial(_step_to_the_end, eager, self._positions),
            slots=slots.count,
            state=(slots.tokens_s, slots.lengths_s, slots.finished_s, slots.said_sm),
        )
        return lambda rows, reach: graphed(rows)

    def _halve_slots(self, run: Scheduler[R]) -> None:
        assert self.slots is not None
        self._slots_wanted = self._half(self.slots.count)
        self.slots = self._step = None
        self.memory.release_all()
        run.restart(slots=self._allocate().count)

    def _half(self, slots: int) -> int:
        if slots == 1:
            wanted = self._prompt_bytes + slot_bytes(self._decoder, positions=self._positions)
            raise PlatformError(f"captioner: want {wanted} bytes for one picture in one slot, found too few")
        _log.warning("out of memory: %d slots instead of %d from here on", slots // 2, slots)
        return slots // 2

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()


def _step_to_the_end(eager: Callable[..., None], positions: int, rows: int) -> None:
    eager(rows=rows, reach=positions)


def _fits(work: Callable[[], None]) -> bool:
    """Do the work; False where memory ran out. The error is gone on return, and with it what it held."""
    try:
        work()
    except torch.OutOfMemoryError:
        return False
    return True
