"""A url, or a redirect's target → one that may be requested"""

from __future__ import annotations

import re
from urllib.parse import quote

from yarl import URL

from recap_spark.statuses import FetchStatus
from recap_spark.workers.faults import FetchError
from recap_spark.workers.limits import FetchLimits

_VERBATIM = re.compile(r"[!-~]+")
_NO_BASE = URL()
_ASCII_PUNCTUATION = "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"


def allowed_url(text: str | None, *, limits: FetchLimits) -> URL:
    """Parse a url of the input."""
    text = (text or "").strip()
    if text in limits.opted_out_urls:
        raise FetchError(FetchStatus.OPTED_OUT, "url on the opt-out list")
    return _allowed(_parsed(text, base=_NO_BASE), limits=limits)


def redirected_url(location: str, *, base: URL, limits: FetchLimits) -> URL:
    """Resolve a Location header against the url that sent it; every rule for urls holds for it too."""
    location = location.strip()
    try:
        location.encode()
    except UnicodeEncodeError:  # Latin-1 bytes, which browsers percent-encode one by one
        location = quote(location.encode("utf-8", "surrogateescape"), safe=_ASCII_PUNCTUATION)
    url = _allowed(_parsed(location, base=base), limits=limits)
    if str(url) in limits.opted_out_urls:
        raise FetchError(FetchStatus.OPTED_OUT, "url on the opt-out list")
    return url


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


def _allowed(url: URL, *, limits: FetchLimits) -> URL:
    if not url.scheme:
        raise FetchError(FetchStatus.BAD_URL, "no scheme")
    if url.scheme not in ("http", "https"):
        raise FetchError(FetchStatus.UNSUPPORTED_SCHEME, f"scheme {url.scheme[:20]}")
    if not url.raw_host:
        raise FetchError(FetchStatus.BAD_URL, "no host")
    if url.raw_user is not None or url.raw_password is not None:
        raise FetchError(FetchStatus.BAD_URL, "carries a user name or password")
    if limits.ports is not None and url.port not in limits.ports:
        raise FetchError(FetchStatus.BAD_URL, f"port {url.port}")
    if _opted_out(host_name(url), domains=limits.opted_out_domains):
        raise FetchError(FetchStatus.OPTED_OUT, "domain on the opt-out list")
    return url


def _opted_out(host: str, *, domains: frozenset[str]) -> bool:
    labels = host.split(".")
    return any(".".join(labels[start:]) in domains for start in range(len(labels)))
