"""pictures + prompts → what a captioner says, whichever engine it runs on"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from recap_spark.models.generation import generate_greedily
from recap_spark.models.pixels import normalise, to_pixels
from recap_spark.workers.captioner import Captioner, CaptionerSpec
from recap_spark.workers.chat_replies import Answer, RefusedError, UnansweredError
from recap_spark.workers.endpoint import EndpointCaptioner, EndpointCaptionerSpec, send
from recap_spark.workers.partition import ahead, loaded
from recap_spark.workers.pictures import decode_rgb


@dataclass(frozen=True)
class Question:
    """One picture, encoded, and what is asked about it."""

    key: str
    picture: bytes
    prompt: str


def answers(
    spec: CaptionerSpec | EndpointCaptionerSpec, questions: Iterable[Question], *, device: str
) -> Iterator[str]:
    """One answer for each question, in order; blank where the endpoint refused it or broke over it.

    Raises PictureError for a picture that does not decode: a benchmark with a damaged file is no benchmark.
    """
    if isinstance(spec, EndpointCaptionerSpec):
        return _of_server(loaded(spec, device), questions)
    return _of_model(loaded(spec, device), questions)


def _of_server(captioner: EndpointCaptioner, questions: Iterable[Question]) -> Iterator[str]:
    def asked() -> Iterator[Future[Answer]]:
        for question in questions:
            picture = decode_rgb(question.picture, largest_pixels=captioner.spec.largest_pixels)
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
    # Prompts differ in length, and padding would change what is decoded: one by one.
    red, green, blue = (int(channel * 255) for channel in captioner.mean)
    for question in questions:
        picture = decode_rgb(question.picture, largest_pixels=captioner.spec.largest_pixels)
        pixels = to_pixels(picture, side=captioner.side, fill=(red, green, blue))
        (said,) = generate_greedily(
            captioner.model,
            normalise(torch.stack([pixels]), mean=captioner.mean, std=captioner.std),
            captioner.tokenise(question.prompt),
            max_new_tokens=captioner.spec.max_new_tokens,
            stop_ids=captioner.stop_ids,
        )
        yield captioner.tokenizer.decode(said.tokens, skip_special_tokens=True).strip()
