"""Messages → answers of an OpenAI-compatible server: many in flight, tried again by cause

POST base_url/chat/completions as vLLM, SGLang, TGI, `transformers serve` and hosted endpoints speak it
(platform.openai.com/docs/api-reference/chat). Captioners and judges are asked through it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import aiohttp
from yarl import URL

from recap_spark.errors import PlatformError
from recap_spark.settings.endpoint import ChatSettings
from recap_spark.workers.chat.replies import (
    Answer,
    DisconnectedError,
    ForbiddenError,
    RefusedError,
    ThrottledError,
    UnansweredError,
    read_reply,
)
from recap_spark.workers.chat.session import api_key, open_session

Message = dict[str, Any]
"""One turn: role, and content as text or as a list of parts."""


class ChatClient:
    """An event loop in a thread of its own, with one session on it. For any thread to ask.

    `model` is its name on the server. `where` says the server's base url, and is asked again after a
    connection failed: a server that was started anew may have another port.
    """

    def __init__(self, settings: ChatSettings, *, model: str, where: Callable[[], str]) -> None:
        self.settings = settings
        self.model = model
        self._where = where
        self._base_url = where()
        self._key = api_key(settings.api_key_env)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), daemon=True, name="chat")
        self._thread.start()
        self._pending: set[Future[Answer]] = set()
        self._has_answered = False
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._one_alone = asyncio.Lock()
        self._one_looks = asyncio.Lock()
        self._session = self._run(open_session(self._key)).result()
        # A worker that goes on to another captioner lets go of this one, and knows nothing of its thread.
        self._hang_up = weakref.finalize(self, _hang_up, self._loop, self._session)

    def ask(
        self, messages: list[Message], *, max_tokens: int, temperature: float, known_good: list[Message]
    ) -> Future[Answer]:
        """The answer, as a future. It raises PlatformError where the server is at fault.

        A message that fails for good while the server still answers `known_good` is at fault itself: the
        future then raises RefusedError, or UnansweredError where every attempt broke the server or timed out.
        """
        options = {"model": self.model, "max_tokens": max_tokens, "temperature": temperature}
        future = self._run(self._answer(options | {"messages": messages}, options | {"messages": known_good}))
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def check(self, known_good: list[Message]) -> None:
        """Raises PlatformError where the server cannot be reached, is not healthy, or does not answer.

        Asks /health or base_url/models, which cost little; a server that has neither page is asked a message.
        """
        self._run(self._check({"model": self.model, "max_tokens": 1, "messages": known_good})).result()

    def forget(self) -> None:
        """Cancel all requests in flight, because their task has ended."""
        for future in tuple(self._pending):
            future.cancel()

    def close(self) -> None:
        """Close the connections and end the thread."""
        self.forget()
        self._hang_up()
        self._thread.join()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _answer(self, body: dict[str, Any], known_good: dict[str, Any]) -> Answer:
        for attempt in range(1, self.settings.attempts):
            try:
                return await self._once_not_busy(body, known_good, place=self._slots)
            except (DisconnectedError, UnansweredError) as failure:
                await asyncio.sleep(self._pause_s(attempt))
                await self._find_again(failure)
        # A message that kills its server takes its neighbours' answers along: who fails alone is the one.
        async with self._alone():
            try:
                return await self._once_not_busy(body, known_good, place=nullcontext())
            except (DisconnectedError, UnansweredError) as failure:
                await self._find_again(failure)
                await self._prove(known_good)
                raise UnansweredError(str(failure)) from failure

    async def _once_not_busy(
        self, body: dict[str, Any], known_good: dict[str, Any], *, place: AbstractAsyncContextManager[Any]
    ) -> Answer:
        """One attempt, repeated for `longest_busy_s` while the server says that it is too busy.

        A message that waits for this reason does not count among those in flight.
        """
        patient_until, turn = self._loop.time() + self.settings.longest_busy_s, 1
        while True:
            try:
                async with place:
                    return await self._attempt(body)
            except ThrottledError as failure:
                pause_s = failure.retry_after_s or self._pause_s(turn)
                if self._loop.time() + pause_s > patient_until:
                    raise PlatformError(self._said(failure)) from failure
            except RefusedError as failure:  # the same words would be refused again
                if isinstance(failure, ForbiddenError) or not self._has_answered:
                    async with place:
                        await self._prove(known_good)
                raise
            turn += 1
            await asyncio.sleep(pause_s)

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
                asyncio.timeout(self.settings.timeout_s),
                self._session.post(url, json=body, allow_redirects=False) as reply,
            ):
                answer = await read_reply(
                    reply, longest_retry_after_s=self.settings.longest_retry_after_s, secret=self._key
                )
        except TimeoutError as cause:
            raise UnansweredError(f"no answer within {self.settings.timeout_s} s") from cause
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
                    asyncio.timeout(self.settings.timeout_s),
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
                for _ in range(self.settings.concurrency):
                    await self._slots.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._slots.release()

    def _pause_s(self, turn: int) -> float:
        longest_s = min(
            self.settings.longest_retry_after_s, self.settings.backoff_s * 2.0 ** min(turn - 1, 30)
        )
        # Half of it drawn: those who were turned away together do not come back together.
        return longest_s * random.uniform(0.5, 1.0)

    def _said(self, cause: Exception) -> str:
        found = f"{type(cause).__name__}: {cause}"
        return f"{self._base_url}: want an answer of model {self.model!r}, found {found}"


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _hang_up(loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
    # Waits for nothing: it may be the loop's own thread that drops the last reference.
    async def leave() -> None:
        await session.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(leave(), loop)
