"""The address of an OpenAI-compatible server, as conf may hold it"""

from __future__ import annotations

from urllib.parse import urlsplit


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
