"""Which engine makes a captioner's captions: one in this process, or a server"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pyarrow as pa

from recap_spark.settings.endpoint import EndpointCaptionerSettings
from recap_spark.settings.schema import CaptionSettings
from recap_spark.workers.captioning.captioner import CaptionerSpec, describe_captioner, prepare_image
from recap_spark.workers.captioning.captions import CAPTIONED, engine_uid, poison_row, stream_captions
from recap_spark.workers.captioning.endpoint import (
    EndpointCaptionerSpec,
    ask_caption,
    describe_endpoint,
    stream_answers,
)
from recap_spark.workers.captioning.journal import Journal, Survivor
from recap_spark.workers.partition import stream_partition

AnyCaptionerSpec = CaptionerSpec | EndpointCaptionerSpec


def captioner_spec(settings: CaptionSettings) -> AnyCaptionerSpec:
    """The captioner that conf names, as workers load it."""
    if isinstance(settings.captioner, EndpointCaptionerSettings):
        return EndpointCaptionerSpec(settings)
    return CaptionerSpec(settings)


def describe(spec: AnyCaptionerSpec) -> dict[str, str | None]:
    """The captioner's row in the table `captioners`."""
    return describe_endpoint(spec) if isinstance(spec, EndpointCaptionerSpec) else describe_captioner(spec)


def caption_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    spec: AnyCaptionerSpec,
    device: Callable[[], str],
    key: str,
    journal: Journal,
) -> Iterator[pa.RecordBatch]:
    """One row of CAPTIONED for every row of `uid, bytes`; `key` is the captioner's key in the table.

    The journal records which images are in an engine of this process, since they may kill it. A server that
    dies leaves this process alive, so its images are not recorded.
    """
    if isinstance(spec, EndpointCaptionerSpec):
        answers = partial(stream_answers, key=key)
        return stream_partition(batches, spec=spec, device=device, prepare=ask_caption, stream=answers)
    captions = Survivor(
        stream=partial(stream_captions, key=key),
        engine_uid=engine_uid,
        poisoned=partial(poison_row, key=key),
        journal=journal,
        together=spec.batch_size,
        schema=CAPTIONED,
    )
    return stream_partition(batches, spec=spec, device=device, prepare=prepare_image, stream=captions)
