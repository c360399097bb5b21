"""Can this scorer work here? Asked of one worker in seconds, before any loads weights"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from recap_spark.settings.model_source import resolve
from recap_spark.workers.dtypes import check_dtype
from recap_spark.workers.scoring.checkpoint import open_clip
from recap_spark.workers.scoring.scorer import ScorerSpec


def check_partition(
    batches: Iterable[pa.RecordBatch], *, spec: ScorerSpec, device: Callable[[], str]
) -> Iterator[pa.RecordBatch]:
    """The rows as they came, where a scorer that this process would load finds what it wants: a device with
    native arithmetic for the dtype, weights that fit its configuration, and a tokenizer that fits the model.

    Reads no weights. A model on the hub is not looked at before a worker has brought it here. Raises
    WeightsError and PlatformError.
    """
    scorer = spec.settings.scorer
    check_dtype(scorer.dtype, device(), key="score.scorer.dtype")
    if (folder := Path(resolve(scorer.model))).is_dir():
        open_clip(folder)
    yield from batches
