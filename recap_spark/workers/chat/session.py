"""A chat client's key, and its connections to one server"""

from __future__ import annotations

import os

import aiohttp

from recap_spark.errors import PlatformError


def api_key(variable: str | None) -> str | None:
    """The key from the environment. Raises PlatformError, which does not show the key, where no HTTP header
    can carry it.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    wanted = f"api_key_env: want a key in the workers' environment as {variable}"
    if not key:
        raise PlatformError(f"{wanted}, found none")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise PlatformError(
            f"{wanted}, found characters that an HTTP header cannot carry, perhaps a line break"
        )
    return key


async def open_session(key: str | None) -> aiohttp.ClientSession:
    """A session for the running event loop, in which it must be called."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # the slots count
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {key}"} if key else None,
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )
