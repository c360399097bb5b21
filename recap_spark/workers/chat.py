"""Messages → answers of an OpenAI-compatible server: many in flight, tried again by cause

POST base_url/chat/completions as vLLM, SGLang, TGI, `transformers serve` and hosted endpoints speak it
(platform.openai.com/docs/api-reference/chat). Captioners and judges are asked through it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from recap_spark.errors import PlatformError
from recap_spark.workers.chat_replies import (
    Answer,
    DisconnectedError,
    RefusedError,
    ThrottledError,
    UnansweredError,
    read_reply,
)

Message = dict[str, Any]
"""One turn: role, and content as text or as a list of parts."""


@dataclass(frozen=True, kw_only=True)
class ChatSpec:
    """How to ask one server. It is pickled to workers and logged: the key itself is not in it."""

    model: str  # as the server calls it
    api_key_env: str | None  # name of the environment variable that holds the key, on the workers
    concurrency: int  # requests in flight, a worker process
    timeout_s: float  # one attempt
    attempts: int  # the last of them with no other in flight
    backoff_s: float  # before the second attempt; doubles with each
    longest_retry_after_s: float  # a server's longer wish is taken for this one


class ChatClient:
    """An event loop in a thread of its own, with one session on it. For any thread to ask.

    `where` says the server's base url, and is asked again after a connection failed: a server that was
    started anew may have another port.
    """

    def __init__(self, spec: ChatSpec, *, where: Callable[[], str]) -> None:
        self.spec = spec
        self._where = where
        self._base_url = where()
        self._key = _key(spec)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="chat")
        self._thread.start()
        self._pending: set[Future[Answer]] = set()
        self._has_answered = False
        self._slots = asyncio.Semaphore(spec.concurrency)
        self._one_alone = asyncio.Lock()
        self._one_looks = asyncio.Lock()
        self._session = self._run(_session(self._key)).result()

    def ask(
        self, messages: list[Message], *, max_tokens: int, temperature: float, known_good: list[Message]
    ) -> Future[Answer]:
        """The answer, in time. The future raises PlatformError where the server is at fault, not the message.

        A message that fails for good while `known_good` is answered has itself to blame: the future raises
        RefusedError, or UnansweredError where it broke the server or its time-out at every attempt.
        """
        options = {"model": self.spec.model, "max_tokens": max_tokens, "temperature": temperature}
        future = self._run(self._answer(options | {"messages": messages}, options | {"messages": known_good}))
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def check(self, known_good: list[Message]) -> None:
        """Raises PlatformError where the server is not there, not well, or will not answer.

        /health or base_url/models say so cheaply; a server that has neither page is asked a message.
        """
        self._run(self._check({"model": self.spec.model, "max_tokens": 1, "messages": known_good})).result()

    def forget(self) -> None:
        """Cancel whatever is still in flight: its task is over."""
        for future in tuple(self._pending):
            future.cancel()

    def close(self) -> None:
        """Hang up, and end the thread."""
        self.forget()
        self._run(self._session.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _answer(self, body: dict[str, Any], known_good: dict[str, Any]) -> Answer:
        for attempt in range(1, self.spec.attempts):
            try:
                async with self._slots:
                    return await self._attempt(body)
            except RefusedError:  # the same words would be refused again
                if not self._has_answered:
                    async with self._slots:
                        await self._prove(known_good)
                raise
            except (ThrottledError, DisconnectedError, UnansweredError) as failure:
                await asyncio.sleep(self._pause_s(failure, attempt))
                await self._find_again(failure)
        # A message that kills its server takes its neighbours' answers along: who fails alone is the one.
        async with self._alone():
            return await self._last_attempt(body, known_good)

    async def _last_attempt(self, body: dict[str, Any], known_good: dict[str, Any]) -> Answer:
        try:
            return await self._attempt(body)
        except RefusedError:
            if not self._has_answered:
                await self._prove(known_good)
            raise
        except ThrottledError as failure:
            raise PlatformError(self._said(failure)) from failure
        except (DisconnectedError, UnansweredError) as failure:
            await self._find_again(failure)
            await self._prove(known_good)
            raise UnansweredError(str(failure)) from failure

    async def _prove(self, known_good: dict[str, Any]) -> None:
        """Raises PlatformError unless the server answers what it should."""
        try:
            await self._attempt(known_good)
        except (RefusedError, ThrottledError, DisconnectedError, UnansweredError) as failure:
            raise PlatformError(self._said(failure)) from failure

    async def _attempt(self, body: dict[str, Any]) -> Answer:
        url = f"{self._base_url}/chat/completions"
        try:
            async with (
                asyncio.timeout(self.spec.timeout_s),
                self._session.post(url, json=body, allow_redirects=False) as reply,
            ):
                answer = await read_reply(reply, longest_retry_after_s=self.spec.longest_retry_after_s)
        except TimeoutError as cause:
            raise UnansweredError(f"no answer within {self.spec.timeout_s} s") from cause
        except aiohttp.ClientConnectorCertificateError as cause:
            raise PlatformError(self._said(cause)) from cause
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as cause:
            raise DisconnectedError(f"{type(cause).__name__}: {cause}") from cause
        self._has_answered = True
        return answer

    async def _check(self, body: dict[str, Any]) -> None:
        origin = URL(self._base_url).origin()
        for page in (f"{origin}/health", f"{self._base_url}/models"):
            try:
                async with (
                    asyncio.timeout(self.spec.timeout_s),
                    self._session.get(page, allow_redirects=False) as reply,
                ):
                    if reply.status == 200:
                        return
            except (TimeoutError, aiohttp.ClientError, OSError) as cause:
                raise PlatformError(self._said(cause)) from cause
        await self._prove(body)

    async def _find_again(self, failure: Exception) -> None:
        if isinstance(failure, DisconnectedError):
            async with self._one_looks:
                self._base_url = await asyncio.to_thread(self._where)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._one_alone:
            taken = 0
            try:
                for _ in range(self.spec.concurrency):
                    await self._slots.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._slots.release()

    def _pause_s(self, failure: Exception, attempt: int) -> float:
        wished_s = failure.retry_after_s if isinstance(failure, ThrottledError) else None
        own_s: float = self.spec.backoff_s * 2 ** (attempt - 1)
        return own_s if wished_s is None else wished_s

    def _said(self, cause: Exception) -> str:
        found = f"{type(cause).__name__}: {cause}"
        return f"{self._base_url}: want an answer of model {self.spec.model!r}, found {found}"


def _key(spec: ChatSpec) -> str | None:
    if spec.api_key_env is None:
        return None
    key = os.environ.get(spec.api_key_env)
    if not key:
        raise PlatformError(
            f"api_key_env: want a key in the workers' environment as {spec.api_key_env}, found none"
        )
    return key


async def _session(key: str | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # the slots count
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {key}"} if key else None,
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )
