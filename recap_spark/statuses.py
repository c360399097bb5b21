"""The closed sets: every way a row can end, in the order of the path.

No Spark here, so workers can name them too.
"""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """Why ingest refused a row, or a whole file (then the row number is null)."""

    NULL_UID = "null_uid"
    MALFORMED_UID = "malformed_uid"  # not 32 lower-case hexadecimal digits
    NOT_UTF8 = "not_utf8"  # a uid or url: as another encoding's bytes it would be another one
    EMPTY_URL = "empty_url"
    NOT_HTTP = "not_http"  # a scheme other than http and https; a url with none is for fetch to judge
    TEXT_TOO_LONG = "text_too_long"  # a page's worth of text is no caption of one picture
    WRONG_TYPE = "wrong_type"  # a value that its column's type cannot hold
    REPEATED_UID = "repeated_uid"  # the same uid and content as the row that was kept
    CONFLICTING_UID = "conflicting_uid"  # the same uid as the row that was kept, other content
    UNREADABLE_FILE = "unreadable_file"  # truncated, or not what its name says
    MISSING_COLUMNS = "missing_columns"  # a Parquet file of something else
    FILTERED_BASIC = "filtered_basic"  # sound, but left out by a condition of ingest.filters, as those below
    FILTERED_CAPTION = "filtered_caption"
    FILTERED_CLIP_SCORE = "filtered_clip_score"


FILTERED = frozenset(
    {RejectReason.FILTERED_BASIC, RejectReason.FILTERED_CAPTION, RejectReason.FILTERED_CLIP_SCORE}
)
"""The reasons of sound rows, which other settings would let in."""


class FetchStatus(StrEnum):
    """How one url ended. `images.detail` says more in free text; queries and retries go by these words."""

    OK = "ok"
    BAD_URL = "bad_url"  # cannot be parsed, carries a user name or password, or names a port not allowed
    UNSUPPORTED_SCHEME = "unsupported_scheme"  # file:, ftp:, data:, …
    OPTED_OUT = "opted_out"  # on the list of domains and urls not to be fetched
    PRIVATE_ADDRESS = "private_address"  # resolves, or redirects, to a host outside the public internet
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"  # the url's whole deadline passed
    HOST_DOWN = "host_down"  # not tried: this host failed too often just now
    GONE = "gone"  # 404 or 410
    FORBIDDEN = "forbidden"  # 401, 403 or 451
    THROTTLED = "throttled"  # 429
    HTTP_4XX = "http_4xx"  # every other 4xx
    HTTP_5XX = "http_5xx"
    HTTP_OTHER = "http_other"  # a final reply that is neither 200 nor an error: 204, 304, …
    REDIRECT_LIMIT = "redirect_limit"
    PROTOCOL = "protocol"  # the reply is not HTTP
    INCOMPLETE = "incomplete"  # the body ended before its declared length
    TOO_LARGE = "too_large"  # cut off at the byte cap
    ROBOTS = "robots"  # robots.txt disallows the url, or X-Robots-Tag this use
    ROBOTS_UNREACHABLE = "robots_unreachable"  # not tried: its host's robots.txt cannot be had just now
    RESERVED = "reserved"  # TDM-Reservation or noml: rights to mining are reserved
    HASH_MISMATCH = "hash_mismatch"  # not the bytes that the metadata's sha256 promises
    NOT_AN_IMAGE = "not_an_image"
    TOO_MANY_PIXELS = "too_many_pixels"  # by the header, before decoding
    TOO_SMALL = "too_small"
    ASPECT_RATIO = "aspect_ratio"
    UNDECODABLE = "undecodable"  # damaged, or of a kind that no decoder here reads
    DECODER_CRASH = (
        "decoder_crash"  # these bytes killed the decoder's process, or asked for too much memory or time
    )
    BAD_FACE_BOX = "bad_face_box"  # a face is named, and nobody can tell where it is: it could not be blurred
    PLACEHOLDER = "placeholder"  # one picture behind very many urls: "image removed"


PASSING_FAILURES = frozenset(
    {
        FetchStatus.DNS,
        FetchStatus.CONNECT,
        FetchStatus.TLS,
        FetchStatus.TIMEOUT,
        FetchStatus.HOST_DOWN,
        FetchStatus.THROTTLED,
        FetchStatus.HTTP_5XX,
        FetchStatus.PROTOCOL,
        FetchStatus.INCOMPLETE,
        FetchStatus.ROBOTS_UNREACHABLE,
    }
)
"""The failures whose cause may pass: the only ones worth another attempt."""


REFUSED = frozenset(
    {
        FetchStatus.BAD_URL,
        FetchStatus.UNSUPPORTED_SCHEME,
        FetchStatus.OPTED_OUT,
        FetchStatus.PRIVATE_ADDRESS,
        FetchStatus.ROBOTS,
        FetchStatus.RESERVED,
    }
)
"""The urls that rules keep from being fetched: they say nothing of whether the picture is still there."""


LINK_ROT = frozenset(
    {
        FetchStatus.DNS,
        FetchStatus.CONNECT,
        FetchStatus.HOST_DOWN,
        FetchStatus.GONE,
        FetchStatus.REDIRECT_LIMIT,
        FetchStatus.NOT_AN_IMAGE,
        FetchStatus.PLACEHOLDER,
    }
)
"""The urls that lead nowhere, or no longer to a picture of their own."""


class CaptionStatus(StrEnum):
    """How captioning one image ended."""

    OK = "ok"
    UNDECODABLE = "undecodable"
    EMPTY_CAPTION = "empty_caption"
    POISON = "poison"  # broke the engine twice
    REFUSED = "refused"  # an endpoint that answers others will not answer this: a filter, a limit


class LeftOut(StrEnum):
    """Why export writes no row of a sample. Of one that was fetched in vain, its FetchStatus says why."""

    NOT_FETCHED = "not_fetched"  # no row in images yet
    SHA256_MISMATCH = "sha256_mismatch"  # not the bytes that the curators saw, and view.sha256 asks for them
    SHA256_UNKNOWN = "sha256_unknown"  # nobody knows what they saw, and view.sha256 asks for `match`
    NO_CAPTION = "no_caption"  # neither original nor recaption
    NO_JPEG = "no_jpeg"  # export cannot decode it, or its sides are longer than a JPEG's may be


class FinishReason(StrEnum):
    """Why generation stopped: a stop token, or the limit of new tokens (then the last sentence may be
    cut).
    """

    STOP = "stop"
    LENGTH = "length"
