"""What aiohttp raises → a status and a short reason"""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp
from aiohttp import http_exceptions

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.addresses import PrivateAddressError

# The worker's own exhaustion: a bad machine, which no row should be blamed for.
_MACHINE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_BAD_ENCODING = (http_exceptions.ContentEncodingError, http_exceptions.DecompressSizeError)


class FetchError(Exception):
    """One attempt ended without a body. The detail never holds a url, whose query may be a signed token."""

    def __init__(
        self, status: FetchStatus, detail: str, *, retry_after_s: float | None = None, lasting: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.lasting = lasting  # its cause may pass in days, but not within this url's deadline


def before_the_reply(cause: Exception) -> FetchError:
    """Why no usable status line and headers arrived."""
    if isinstance(cause, aiohttp.ClientConnectorError):
        return _connecting(cause)
    if isinstance(cause, ssl.SSLError):
        return FetchError(FetchStatus.TLS, _named(cause))
    if isinstance(cause, aiohttp.ServerTimeoutError):
        return FetchError(FetchStatus.CONNECT, "no connection in time")
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return FetchError(FetchStatus.CONNECT, "closed without a reply")
    if isinstance(cause, OSError):
        _blame_the_machine(cause)
        return FetchError(FetchStatus.CONNECT, _named(cause))
    if isinstance(cause, aiohttp.ClientResponseError):  # says 400, though the server may never have
        return FetchError(
            FetchStatus.PROTOCOL, cause.message.partition("\n")[0][:120].rstrip(": ") or "unreadable reply"
        )
    # aiohttp.InvalidURL, a UnicodeError for a label too long for DNS, yarl's own
    if isinstance(cause, ValueError):
        return FetchError(FetchStatus.BAD_URL, f"not a url that can be requested ({type(cause).__name__})")
    if isinstance(cause, MemoryError):
        raise cause
    return FetchError(FetchStatus.PROTOCOL, type(cause).__name__)


def within_the_body(cause: Exception) -> FetchError:
    """Why the body did not arrive to its end."""
    if isinstance(cause.__cause__, _BAD_ENCODING) or isinstance(cause, _BAD_ENCODING):
        return FetchError(FetchStatus.PROTOCOL, "undecodable Content-Encoding")
    return FetchError(FetchStatus.INCOMPLETE, type(cause).__name__)


def _connecting(cause: aiohttp.ClientConnectorError) -> FetchError:
    if isinstance(cause.os_error, PrivateAddressError):
        return FetchError(FetchStatus.PRIVATE_ADDRESS, str(cause.os_error))
    _blame_the_machine(cause.os_error)
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        # A busy resolver may answer when asked again; one that knows no such name will say the same.
        unknown = cause.os_error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        return FetchError(FetchStatus.DNS, _named(cause.os_error), lasting=unknown)
    if isinstance(cause, aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError):
        return FetchError(FetchStatus.TLS, _named(cause.os_error), lasting=True)
    return FetchError(FetchStatus.CONNECT, _named(cause.os_error))


def _blame_the_machine(cause: OSError) -> None:
    if cause.errno in _MACHINE_ERRORS and not isinstance(cause, socket.gaierror):
        raise cause


def _named(cause: OSError) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"handshake: {cause.reason or type(cause).__name__}"
    return cause.strerror or type(cause).__name__
