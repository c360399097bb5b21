"""step → share of the peak learning rate"""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_then_cosine(*, steps: int, warmup_steps: int) -> Callable[[int], float]:
    """A straight rise over the warm-up, then half a cosine down to nothing at `steps`."""

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return share
