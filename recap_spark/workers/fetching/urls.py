"""A url, or a redirect's target → one that may be requested"""

from __future__ import annotations

import re
from urllib.parse import quote

from yarl import URL

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.failures import FetchError

_VERBATIM = re.compile(r"[!-~]+")
_NO_BASE = URL()
_ASCII_PUNCTUATION = "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"


def allowed_url(text: str | None, *, limits: FetchLimits) -> URL:
    """Parse a url of the input. One with lone surrogates was no UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as cause:
        raise FetchError(FetchStatus.BAD_URL, "no UTF-8") from cause
    return _allowed(_parsed((text or "").strip(), base=_NO_BASE), limits=limits)


def redirected_url(location: str, *, base: URL, limits: FetchLimits) -> URL:
    """Resolve a Location header against the url that sent it; every rule for urls holds for it too."""
    location = location.strip()
    try:
        location.encode()
    except UnicodeEncodeError:  # Latin-1 bytes, which browsers percent-encode one by one
        location = quote(location.encode("utf-8", "surrogateescape"), safe=_ASCII_PUNCTUATION)
    return _allowed(_parsed(location, base=base), limits=limits)


def plain_url(text: str) -> str:
    """The one form of a url that all its spellings have in common: opted-out urls are compared by it.

    Scheme and host in lower case, no port where it is the scheme's own, no fragment, and percent-encoding
    only where it is needed. Raises FetchError for what is no absolute url.
    """
    return _plain(_with_a_host(_parsed(text.strip(), base=_NO_BASE)))


def opt_out(text: str | None, *, limits: FetchLimits) -> str | None:
    """Which opt-out list a url is on, if it is on one."""
    try:
        allowed_url(text, limits=limits)
    except FetchError as error:
        return error.detail if error.status is FetchStatus.OPTED_OUT else None
    return None


def host_name(url: URL) -> str:
    return (url.raw_host or "").rstrip(".").lower()


def _parsed(text: str, *, base: URL) -> URL:
    try:
        # Signed urls break when requoted, so one that is printable ASCII is sent as it stands.
        url = base.join(URL(text, encoded=_VERBATIM.fullmatch(text) is not None))
        _ = url.port, url.raw_host, url.raw_user  # yarl looks at them only when asked
    except (ValueError, LookupError, AssertionError) as cause:  # IndexError, for `http://a[]@//`
        raise FetchError(FetchStatus.BAD_URL, "cannot be parsed") from cause
    return url


def _with_a_host(url: URL) -> URL:
    if not url.scheme:
        raise FetchError(FetchStatus.BAD_URL, "no scheme")
    if url.scheme not in ("http", "https"):
        raise FetchError(FetchStatus.UNSUPPORTED_SCHEME, f"scheme {url.scheme[:20]}")
    if not url.raw_host:
        raise FetchError(FetchStatus.BAD_URL, "no host")
    return url


def _allowed(url: URL, *, limits: FetchLimits) -> URL:
    _with_a_host(url)
    if _opted_out(host_name(url), domains=limits.opted_out_domains):
        raise FetchError(FetchStatus.OPTED_OUT, "domain on the opt-out list")
    if limits.opted_out_urls and not limits.opted_out_urls.isdisjoint((str(url), _plain(url))):
        raise FetchError(FetchStatus.OPTED_OUT, "url on the opt-out list")
    if url.raw_user is not None or url.raw_password is not None:
        raise FetchError(FetchStatus.BAD_URL, "carries a user name or password")
    if limits.ports is not None and url.port not in limits.ports:
        raise FetchError(FetchStatus.BAD_URL, f"port {url.port}")
    return url


def _plain(url: URL) -> str:
    port = "" if url.is_default_port() else f":{url.port}"
    path = URL(f"http://host{url.raw_path_qs}").raw_path_qs  # a path on its own may look like a host
    return f"{url.scheme}://{host_name(url)}{port}{path}"


def _opted_out(host: str, *, domains: frozenset[str]) -> bool:
    labels = host.split(".")
    return any(".".join(labels[start:]) in domains for start in range(len(labels)))
