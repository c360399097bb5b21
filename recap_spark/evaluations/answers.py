"""pictures + prompts → what a captioner says, by the engine that makes its captions"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from recap_spark.errors import InputError
from recap_spark.workers.captioning.captioner import (
    Captioner,
    CaptionerSpec,
    Prepared,
    prepare_image,
    slot_engine,
)
from recap_spark.workers.captioning.captions import stream_captions
from recap_spark.workers.captioning.endpoint import EndpointCaptioner, EndpointCaptionerSpec, send
from recap_spark.workers.chat.replies import Answer, RefusedError, UnansweredError
from recap_spark.workers.partition import ahead, loaded
from recap_spark.workers.pictures.pictures import PictureError


@dataclass(frozen=True)
class Question:
    """One picture, encoded, and what is asked about it. No two have the same key."""

    key: str
    picture: bytes
    prompt: str


def answers(
    spec: CaptionerSpec | EndpointCaptionerSpec, questions: Iterable[Question], *, device: str
) -> Iterator[str]:
    """One answer for each question, in order; blank where the endpoint refused it or broke over it.

    Raises InputError for a picture that does not decode: a benchmark with a damaged file is no benchmark.
    """
    if isinstance(spec, EndpointCaptionerSpec):
        return _of_server(loaded(spec, device), questions)
    return _of_model(loaded(spec, device), questions)


def _of_server(captioner: EndpointCaptioner, questions: Iterable[Question]) -> Iterator[str]:
    def asked() -> Iterator[Future[Answer]]:
        for question in questions:
            try:
                picture = captioner.decoders.decode(question.picture)
            except PictureError as error:
                raise _damaged(question) from error
            yield send(captioner, picture, question.prompt)

    try:
        for future in ahead(asked(), size=2 * captioner.spec.endpoint.concurrency):
            try:
                yield future.result().text
            except (RefusedError, UnansweredError):
                yield ""
    finally:
        captioner.client.forget()


def _of_model(captioner: Captioner, questions: Iterable[Question]) -> Iterator[str]:
    # Prompts differ in length, and padding would change what is decoded: those of the same prompt together.
    for prompt, asked in groupby(questions, key=lambda question: question.prompt):
        some = list(asked)
        one = _about(captioner, prompt, most=len(some))
        batches = stream_captions(one, map(partial(_prepared, one), some), key="")
        said = {row["uid"]: row["caption"] or "" for batch in batches for row in batch.to_pylist()}
        yield from (said[question.key] for question in some)


def _about(captioner: Captioner, prompt: str, *, most: int) -> Captioner:
    """The same weights by the same engine, under another prompt."""
    settings = captioner.spec.settings
    spec = CaptionerSpec(settings.model_copy(update={"slots": min(settings.slots, most)}))
    other = replace(captioner, spec=spec, prompt_ids=captioner.tokenise(prompt), engine=None)
    return replace(other, engine=slot_engine(other)) if captioner.engine is not None else other


def _prepared(captioner: Captioner, question: Question) -> Prepared:
    prepared = prepare_image(captioner, {"uid": question.key, "bytes": question.picture})
    if prepared.pixels is None:
        raise _damaged(question)
    return prepared


def _damaged(question: Question) -> InputError:
    return InputError(f"{question.key}: want a picture that decodes, found {len(question.picture)} bytes")
