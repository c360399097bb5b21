"""A decode step recorded once as a CUDA graph and replayed: one launch instead of a thousand"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

_WARM_UPS = (
    2  # libraries choose kernels and take their workspaces in the first calls, which no graph may hold
)
_HALVINGS = 3  # the smallest graph is an eighth of the slots: a partition's end, when they empty one by one


@dataclass
class GraphedStep:
    """A step over the first rows of the slots, replayed from a graph of the next size up.

    A graph is recorded when its size is first asked for. Recording runs the step, so the small tensors it
    advances are put back; what it writes into the cache is what the replayed step writes there again.
    """

    step: Callable[[int], None]  # of the number of rows
    slots: int
    state: tuple[Tensor, ...]
    graphs: dict[int, torch.cuda.CUDAGraph] = field(default_factory=dict)

    def __call__(self, rows: int) -> None:
        size = graph_size(rows, slots=self.slots)
        if size not in self.graphs:
            self.graphs[size] = self._record(size)
        self.graphs[size].replay()

    def _record(self, size: int) -> torch.cuda.CUDAGraph:
        before = [tensor.clone() for tensor in self.state]
        device = self.state[0].device
        aside = _stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self.step(size)
        torch.cuda.current_stream(device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self.graphs.values())).pool() if self.graphs else None
        with torch.cuda.graph(graph, pool=pool, stream=aside):
            self.step(size)
        for tensor, kept in zip(self.state, before, strict=True):
            tensor.copy_(kept)
        return graph


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all graphs: cuBLAS keeps 32 MB for each stream that it has ever seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def graph_size(rows: int, *, slots: int) -> int:
    """The smallest of slots, slots / 2, slots / 4 and slots / 8 that holds so many rows."""
    sizes = [max(1, slots >> halving) for halving in range(_HALVINGS + 1)]
    return min(size for size in sizes if size >= rows)
