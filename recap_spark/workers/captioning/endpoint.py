"""Rows of images → rows of captions, by a model behind an OpenAI-compatible server"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from PIL import Image

from recap_spark.errors import SettingsError
from recap_spark.settings.endpoint import (
    EndpointCaptionerSettings,
    EndpointSettings,
    SentPictureSettings,
    plain_base_url,
)
from recap_spark.settings.model_source import resolve
from recap_spark.settings.schema import CaptionSettings
from recap_spark.statuses import CaptionStatus
from recap_spark.workers.captioning.captions import CAPTIONED
from recap_spark.workers.captioning.server import served_url
from recap_spark.workers.chat.client import ChatClient, Message
from recap_spark.workers.chat.replies import Answer, RefusedError, UnansweredError
from recap_spark.workers.partition import chunks
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders
from recap_spark.workers.rows import Row
from recap_spark.workers.weights import weights_sha256


@dataclass(frozen=True)
class EndpointCaptionerSpec:
    """A captioner behind a server, which workers ask."""

    settings: CaptionSettings  # with a captioner of engine endpoint

    @property
    def captioner(self) -> EndpointCaptionerSettings:
        """Raises SettingsError where the captioner is one that a worker loads."""
        captioner = self.settings.captioner
        if isinstance(captioner, EndpointCaptionerSettings):
            return captioner
        found = f"{captioner.name} with engine: {captioner.engine}"
        raise SettingsError(f"caption.captioner: want one with engine: endpoint, found {found}")

    @property
    def endpoint(self) -> EndpointSettings:
        return self.captioner.endpoint

    @property
    def decode_threads(self) -> int:
        return self.settings.decode_threads

    @property
    def batch_size(self) -> int:
        """Rows in a batch of answers.

        Requests continue from one batch to the next, and five batches are under way at once. A worker
        therefore holds two and a half times as many encoded pictures as it has requests in flight.
        """
        return max(1, self.endpoint.concurrency // 2)

    def load(self, device: str) -> EndpointCaptioner:
        return reach_captioner(self, device)


@dataclass(frozen=True)
class EndpointCaptioner:
    """A server that passed its health check, and what is needed to ask it."""

    spec: EndpointCaptionerSpec
    client: ChatClient
    decoders: PixelDecoders
    known_good: str  # a plain grey picture as a data url


@dataclass(frozen=True)
class Asked:
    """One image whose caption has been requested, or the reason why none was."""

    uid: str
    caption: Future[Answer] | None
    status: CaptionStatus


def describe_endpoint(spec: EndpointCaptionerSpec) -> dict[str, str | None]:
    """The captioner's row in the table `captioners`. Its key depends neither on the server's address nor on
    how many requests it gets at once.
    """
    captioner, picture = spec.captioner, spec.endpoint.picture
    rule: dict[str, object] = {"side": picture.side, "format": picture.format}
    if picture.format == "jpeg":
        rule["quality"] = picture.jpeg_quality
    decoding = {
        "engine": "endpoint",
        "temperature": spec.endpoint.temperature,
        "max_new_tokens": captioner.max_new_tokens,
        "picture": rule,
    }
    made_by = {
        "model": captioner.model,
        "revision": captioner.revision,
        "weights_sha256": weights_sha256(captioner.model) if spec.endpoint.serve else None,
        "prompt": captioner.prompt,
        "chat_template": None,  # the server's
        "decoding": json.dumps(decoding),
        "dtype": captioner.dtype,
    }
    fingerprint = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    return {"captioner": f"{captioner.name}-{fingerprint[:12]}", "fingerprint": fingerprint, **made_by}


def reach_captioner(spec: EndpointCaptionerSpec, device: str) -> EndpointCaptioner:
    """Connect to the server, or start this executor's own. Raises PlatformError where it is not healthy."""
    where = partial(base_url, spec, device=device)
    model = spec.captioner.model
    model = resolve(model) if spec.endpoint.serve else model
    client = ChatClient(spec.endpoint, model=model, where=where)
    side = spec.endpoint.picture.side
    grey = data_url(Image.new("RGB", (side, side), (127, 127, 127)), spec.endpoint.picture)
    captioner = EndpointCaptioner(spec, client, PixelDecoders(spec.settings.decode), grey)
    client.check(messages(captioner.known_good, spec.captioner.prompt))
    return captioner


def base_url(spec: EndpointCaptionerSpec, *, device: str) -> str:
    """The server's url; an executor's own server is started where it is not running."""
    captioner, serve = spec.captioner, spec.endpoint.serve
    if serve is None:
        return plain_base_url(str(spec.endpoint.base_url))
    words = {
        "model": resolve(captioner.model),
        "dtype": captioner.dtype or "auto",
        "revision": captioner.revision or "main",
    }
    return served_url(serve, words=words, device=device)


def ask_caption(captioner: EndpointCaptioner, row: Row) -> Asked:
    """Request the caption of a picture. One that cannot be decoded gets a status and is not sent."""
    try:
        picture = captioner.decoders.decode(row["bytes"])
    except PictureError:
        return Asked(row["uid"], None, CaptionStatus.UNDECODABLE)
    return Asked(row["uid"], send(captioner, picture, captioner.spec.captioner.prompt), CaptionStatus.OK)


def send(captioner: EndpointCaptioner, picture: Image.Image, prompt: str) -> Future[Answer]:
    """Ask anything about an RGB picture."""
    return captioner.client.ask(
        messages(data_url(picture, captioner.spec.endpoint.picture), prompt),
        max_tokens=captioner.spec.captioner.max_new_tokens,
        temperature=captioner.spec.endpoint.temperature,
        known_good=messages(captioner.known_good, prompt),
    )


def stream_answers(
    captioner: EndpointCaptioner, images: Iterator[Asked], *, key: str
) -> Iterator[pa.RecordBatch]:
    """One row of CAPTIONED for every image, in order, once its answer is there."""
    try:
        for some in chunks(images, captioner.spec.batch_size):
            rows = [{"uid": image.uid, "captioner": key} | _said(image) for image in some]
            yield pa.RecordBatch.from_pylist(rows, schema=CAPTIONED)
    finally:
        captioner.client.forget()


def _said(image: Asked) -> Row:
    if image.caption is None:
        return {"status": str(image.status)}
    try:
        answer = image.caption.result()
    except RefusedError:
        return {"status": str(CaptionStatus.REFUSED)}
    except UnansweredError:
        return {"status": str(CaptionStatus.POISON)}
    return {
        "status": str(CaptionStatus.OK if answer.text else CaptionStatus.EMPTY_CAPTION),
        "finish_reason": str(answer.finish),
        "tokens": answer.tokens,
        "caption": answer.text or None,
    }


def messages(picture_url: str, prompt: str) -> list[Message]:
    """LLaVA's turn: the picture, then the words."""
    picture = {"type": "image_url", "image_url": {"url": picture_url}}
    return [{"role": "user", "content": [picture, {"type": "text", "text": prompt}]}]


def data_url(picture: Image.Image, rule: SentPictureSettings) -> str:
    """RGB picture → `data:image/...;base64,...` (RFC 2397), by LLaVA's `pad` rule."""
    from recap_spark.models.pixels import OPENAI_FILL, to_pixels

    pixels_3ss = to_pixels(picture, side=rule.side, fill=OPENAI_FILL)
    square = Image.fromarray(pixels_3ss.permute(1, 2, 0).numpy())
    out = io.BytesIO()
    # Level 1: the bytes go over a local wire once, and a tenth of the time is spent on them.
    options = {"compress_level": 1} if rule.format == "png" else {"quality": rule.jpeg_quality}
    square.save(out, rule.format, **options)
    return f"data:image/{rule.format};base64,{base64.b64encode(out.getvalue()).decode()}"
