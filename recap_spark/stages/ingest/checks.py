"""rows of metadata → the reason each is refused for, or null; and the small repairs of those that are kept"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from recap_spark.statuses import RejectReason

_VISIBLE = r"(?U)\S"  # U: the blanks of all scripts are blank


def reject_reason(*, longest_text: int) -> Column:
    """Why a row cannot be a sample: the first that applies, null for a good row.

    Wants uid, url, text and mistyped.
    """
    url = F.trim("url")
    is_plain = url.startswith("https://") | url.startswith("http://")
    return F.coalesce(
        _when(F.col("mistyped"), RejectReason.WRONG_TYPE),
        _when(F.col("uid").isNull(), RejectReason.NULL_UID),
        _when(~F.is_valid_utf8(F.col("uid")) | ~F.is_valid_utf8(url), RejectReason.NOT_UTF8),
        _when(~is_md5_like(F.col("uid")), RejectReason.MALFORMED_UID),
        _when(F.coalesce(url, F.lit("")) == "", RejectReason.EMPTY_URL),
        # `host:8080/` is a url without a scheme, which fetch answers as it answers any that it cannot parse.
        _when(~is_plain & url.rlike(r"^(?i)(?!https?:)[a-z][a-z0-9+.-]*:(?!\d)"), RejectReason.NOT_HTTP),
        # A page's whole text, up to a million characters in CommonPool, would choke tokenizers and
        # broadcasts. Characters are at most as many as bytes, whose number is known without a walk.
        _when(
            (F.octet_length("text") > longest_text) & (F.length("text") > longest_text),
            RejectReason.TEXT_TOO_LONG,
        ),
    )


def repaired(text: Column) -> Column:
    r"""Alt-text with leaked byte escapes such as `\xc2\xae` put back as the characters they were.

    Recap-DataComp-1B's org_caption shows str(bytes) leaks (UCSC-VLAA/Recap-DataComp-1B#14). A text whose
    escapes are no UTF-8 is left as it stands.
    """
    # By way of urls' percent escapes, which Spark decodes natively: a lambda over the text's pieces would
    # take the whole scan out of code generation.
    as_percent = F.regexp_replace(F.url_encode(text), r"%5Cx([0-9a-fA-F]{2})", "%$1")
    decoded = F.url_decode(as_percent)
    mended = F.when(decoded.contains("\ufffd"), text).otherwise(decoded)
    return F.when(text.contains("\\x"), mended).otherwise(text)


def readable(text: Column, *, cap: int) -> Column:
    """At most `cap` characters of the text; null where it is all blank."""
    # Cutting walks over every character, so only what may be too long is cut.
    cut = F.when(F.octet_length(text) > cap, F.substring(text, 1, cap)).otherwise(text)
    # So does the search for something to read, which most texts begin with: with a byte from ! to ~.
    is_visible = ((text >= "!") & (text < "\x7f")) | text.rlike(_VISIBLE)
    return F.when(is_visible, cut)


def is_md5_like(uid: Column) -> Column:
    """32 lower-case hexadecimal digits, at a third of the cost of a regular expression."""
    return (F.octet_length(uid) == 32) & F.unhex(uid).isNotNull() & (F.lower(uid) == uid)


def _when(condition: Column, reason: RejectReason) -> Column:
    return F.when(condition, F.lit(str(reason)))
