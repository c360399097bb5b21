"""A chat server's reply → its answer, or the cause of there being none"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from recap_spark.errors import PlatformError
from recap_spark.statuses import FinishReason
from recap_spark.workers.retry_after import retry_after_s

_FINISHES = {
    "stop": FinishReason.STOP,
    "eos_token": FinishReason.STOP,  # TGI's words
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}
_WRONG_DOOR = {  # no message would be answered: the key, the address or the model's name is wrong
    301: "it has moved",
    302: "it has moved",
    307: "it has moved",
    308: "it has moved",
    401: "the key is not accepted",
    404: "no such page or model",
    405: "no such page",
}
_TOO_BUSY = frozenset({408, 429, 503})
_SHOWN = 300  # characters of a server's own words


@dataclass(frozen=True)
class Answer:
    """What the model said."""

    text: str
    finish: FinishReason
    tokens: int | None  # generated, stop token included, where the server counts them


class RefusedError(Exception):
    """The server understood this message and will not answer it."""


class ForbiddenError(RefusedError):
    """Either the key is not accepted for any message, or a filter in front of the server rejects this one."""


class ThrottledError(Exception):
    """The server is too busy; it may say for how long."""

    def __init__(self, said: str, *, retry_after_s: float | None) -> None:
        super().__init__(said)
        self.retry_after_s = retry_after_s


class DisconnectedError(Exception):
    """No connection, or none that lasted: the server may be gone."""


class UnansweredError(Exception):
    """The server broke over this message, was too slow, or sent something that is no answer."""


async def read_reply(
    reply: aiohttp.ClientResponse, *, longest_retry_after_s: float, secret: str | None
) -> Answer:
    """The answer in a reply. Raises the cause where there is none, PlatformError where no message would get
    one.

    Where a server repeats the `secret` that it was sent, the secret is masked before anything else reads the
    text.
    """
    body = await reply.read()
    if secret:
        body = body.replace(secret.encode(), b"***")
    if reply.status == 200:
        try:
            return answer_of(json.loads(body))
        except ValueError as cause:
            raise UnansweredError(f"HTTP 200 without JSON: {cause}") from cause
    said = f"HTTP {reply.status}: {body.decode(errors='replace')[:_SHOWN]}"
    if reply.status in _WRONG_DOOR:
        raise PlatformError(f"{reply.url}: {_WRONG_DOOR[reply.status]}: {said}")
    if reply.status in _TOO_BUSY:
        wished_s = retry_after_s(reply.headers.get("Retry-After"))
        raise ThrottledError(
            said, retry_after_s=None if wished_s is None else min(wished_s, longest_retry_after_s)
        )
    if reply.status == 403:
        raise ForbiddenError(said)
    if 400 <= reply.status < 500:
        raise RefusedError(said)
    raise UnansweredError(said)


def answer_of(reply: Any) -> Answer:
    """The first choice of a `chat.completion`.

    Raises RefusedError where a filter took it, UnansweredError where there is none.
    """
    try:
        choice = reply["choices"][0]
        text, said = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as cause:
        raise UnansweredError(f"want choices[0].message.content, found {str(reply)[:_SHOWN]}") from cause
    if said == "content_filter":
        raise RefusedError("content_filter")
    if said not in _FINISHES or not isinstance(text, str | None):
        wanted = f"a text that ended by one of {sorted(_FINISHES)}"
        raise UnansweredError(f"want {wanted}, found {str(choice)[:_SHOWN]}")
    usage = reply.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Answer(
        # JSON can spell half a surrogate pair, which no table's text can hold.
        text=(text or "").encode(errors="replace").decode().strip(),
        finish=_FINISHES[said],
        tokens=tokens if isinstance(tokens, int) else None,
    )
