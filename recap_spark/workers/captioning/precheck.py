"""Can this captioner work here? Asked of one worker in seconds, before any loads weights for minutes"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from recap_spark.errors import PlatformError
from recap_spark.settings.model_source import resolve
from recap_spark.settings.schema import CaptionerSettings
from recap_spark.workers.captioning.captioner import CaptionerSpec, prompt_tokens, stop_tokens
from recap_spark.workers.captioning.checkpoint import open_llava
from recap_spark.workers.captioning.engines import AnyCaptionerSpec
from recap_spark.workers.captioning.journal import Journal
from recap_spark.workers.dtypes import check_dtype


def check_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    spec: AnyCaptionerSpec,
    device: Callable[[], str],
    journal: Journal,
) -> Iterator[pa.RecordBatch]:
    """The rows as they came, where a captioner that this process would load finds what it wants: a device
    with native arithmetic for the dtype, weights that fit its configuration, a template and a tokenizer that
    fit each other, and a journal that can be written.

    Reads no weights. A model on the hub is not looked at before a worker has brought it here, and an endpoint
    answers for itself. Raises WeightsError and PlatformError.
    """
    if isinstance(spec, CaptionerSpec):
        _check_float8(spec.captioner, device())
        check_dtype(spec.captioner.dtype, device(), key="caption.captioner.dtype")
        _check_journal(journal)
        if Path(resolve(spec.captioner.model)).is_dir():
            model, processor, _ = open_llava(spec.captioner)
            prompt_tokens(processor, model, spec.captioner.prompt)
            stop_tokens(model)
    yield from batches


def _check_float8(captioner: CaptionerSettings, device: str) -> None:
    if not captioner.float8_linears:
        return
    import torch

    from recap_spark.models.llava.float8 import require_float8

    require_float8(torch.device(device), getattr(torch, captioner.dtype))


def _check_journal(journal: Journal) -> None:
    try:
        journal.cross_out(journal.note([]))
    except OSError as error:
        raise PlatformError(
            f"caption.journal: want {journal.folder} to be written by every worker, found: {error}"
        ) from error
