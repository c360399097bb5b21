"""conf/captioners/*.yml of an endpoint, and how an OpenAI-compatible server is asked"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from recap_spark.settings.section import Section, read_strictly
from recap_spark.settings.values import Count, JpegQuality, NotNegative, Pixels, Seconds, SecondsOrNone

# In angle brackets, since pydantic puts them into the path of a key, where no key of a file looks like that.
IN_PROCESS, ENDPOINT = "<in process>", "<endpoint>"


def plain_base_url(url: str) -> str:
    """The same, without a slash at its end. Raises ValueError, which shows nothing of the url, where it is no
    http or https address or where it carries what may be a secret: conf is logged.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url: want http:// or https:// and a host, up to and with /v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("base_url: want no user, password or query in it: name a variable in api_key_env")
    return url.rstrip("/")


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """How to ask one server. It is pickled to workers and logged: the key itself is not in it."""

    api_key_env: str | None  # name of the environment variable that holds the key, on the workers
    concurrency: Count  # requests in flight, a worker process
    timeout_s: Seconds  # one attempt
    attempts: Count  # of what breaks; the last of them with no other in flight
    longest_busy_s: (
        SecondsOrNone  # a server may say that it has too much to do, before that counts as its fault
    )
    backoff_s: SecondsOrNone  # before the second attempt; doubles with each
    longest_retry_after_s: SecondsOrNone  # no pause is longer, whatever a server wishes

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: want at least 1, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """A server that each executor runs for itself, one on each GPU it is given."""

    command: tuple[str, ...]  # {port}, {python}, {model}, {dtype} and {revision} are filled in
    start_timeout_s: Seconds
    stop_timeout_s: SecondsOrNone  # between SIGTERM and SIGKILL


@dataclass(frozen=True, kw_only=True)
class SentPictureSettings:
    """How a picture travels: padded to a square and resized here, so that the server's own rule has nothing
    left to do.
    """

    side: Pixels  # pixels; what the model's vision tower takes
    format: Literal["png", "jpeg"]  # png: the very pixels that an engine in this process would see
    jpeg_quality: JpegQuality


@dataclass(frozen=True, kw_only=True)
class EndpointSettings(ChatSettings):
    """Where a captioner's server is, and how it is asked."""

    base_url: str | None  # up to and with /v1; null where each executor serves for itself
    serve: ServerSettings | None
    temperature: NotNegative
    picture: SentPictureSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.base_url is None) == (self.serve is None):
            raise ValueError("want either base_url or serve, found " + ("both" if self.serve else "neither"))
        if self.base_url is not None:
            plain_base_url(self.base_url)
        if self.serve is not None and any("api-key" in word for word in self.serve.command):
            raise ValueError("serve.command: want no key in it: a server has its workers' environment")


read_strictly(ChatSettings, ServerSettings, SentPictureSettings, EndpointSettings)


class EndpointCaptionerSettings(Section):
    """conf/captioners/*.yml with `engine: endpoint`: a captioner that a server runs."""

    name: str
    engine: Literal["endpoint"]
    model: str
    revision: str | None
    prompt: str
    max_new_tokens: Count
    dtype: str | None
    endpoint: EndpointSettings


def kind(values: Any) -> str:
    """Which settings a captioner's file holds."""
    engine = values.get("engine") if isinstance(values, dict) else getattr(values, "engine", None)
    return ENDPOINT if engine == "endpoint" else IN_PROCESS


def without_kind(path: tuple[int | str, ...]) -> tuple[str, ...]:
    """A key's path as the file has it."""
    return tuple(str(part) for part in path if part not in (IN_PROCESS, ENDPOINT))
