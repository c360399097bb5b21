"""Who is in which slot: pictures that wait, pictures under way, slots that are free"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

R = TypeVar("R")


@dataclass(frozen=True)
class Picture(Generic[R]):
    """A picture to caption, and the row that its caption is for."""

    row: R
    pixels: Tensor  # uint8 [3, S, S]
    longest: int  # new tokens


class Scheduler(Generic[R]):
    """One run of the engine over one stream of pictures."""

    def __init__(self, pictures: Iterable[Picture[R]], *, slots: int) -> None:
        self._source: Iterator[Picture[R]] = iter(pictures)
        self._waiting: deque[Picture[R]] = deque()
        self._live: dict[int, tuple[Picture[R], int]] = {}  # by slot; with the step at which it began
        self._steps = 0
        self._ended = False
        self.restart(slots=slots)

    @property
    def live(self) -> list[int]:
        """The slots with a picture under way."""
        return list(self._live)

    @property
    def rows(self) -> int:
        """How many slots a step has to decode: up to the last that is in use."""
        return max(self._live) + 1

    @property
    def oldest(self) -> int:
        """Steps taken by the picture that is longest under way."""
        return self._steps - min(begun for _, begun in self._live.values())

    @property
    def drained(self) -> bool:
        """Whether no picture will come any more."""
        return self._ended and not self._waiting

    def draw(self, batch: int) -> list[Picture[R]]:
        """The next pictures, as many as are read at once; none while too few slots are free for that.

        May wait for the stream.
        """
        if not self._free or (self._live and len(self._free) < min(batch, self._slots)):
            return []
        count = min(batch, len(self._free))
        while len(self._waiting) < count and not self._ended:
            picture = next(self._source, None)
            self._ended = picture is None
            if picture is not None:
                self._waiting.append(picture)
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def put_back(self, pictures: list[Picture[R]]) -> None:
        """Let drawn pictures wait again, before all others."""
        self._waiting.extendleft(reversed(pictures))

    def next_free(self, count: int) -> list[int]:
        """The slots that `occupy` will give to so many pictures.

        Low ones go first, so that a step over the first slots decodes few that are idle.
        """
        return heapq.nsmallest(count, self._free)

    def occupy(self, pictures: list[Picture[R]]) -> None:
        """Put pictures into the next free slots."""
        for picture in pictures:
            self._live[heapq.heappop(self._free)] = (picture, self._steps)

    def passed(self) -> None:
        """Count a step of all slots."""
        self._steps += 1

    def vacate(self, slot: int) -> Picture[R]:
        """Free a slot; returns the picture that was in it."""
        heapq.heappush(self._free, slot)
        picture, _ = self._live.pop(slot)
        return picture

    def close_up(self) -> dict[int, int]:
        """Move pictures from the last slots in use to the first free ones; returns which came from where.

        After it no slot is free below one in use.
        """
        moved = {}
        while self._free and self._live and self._free[0] < (last := max(self._live)):
            first = heapq.heapreplace(self._free, last)
            self._live[first] = self._live.pop(last)
            moved[first] = last
        return moved

    def restart(self, *, slots: int) -> None:
        """Begin again in other slots with every picture that was under way."""
        self.put_back([picture for picture, _ in self._live.values()])
        self._live.clear()
        self._slots = slots
        self._free = list(range(slots))
