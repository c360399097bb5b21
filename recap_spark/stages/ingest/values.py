"""single values of metadata → what they were meant to be, or null"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

_UNDEFINED = "\x81\x8d\x8f\x90\x9d"  # the bytes that Windows-1252 has no letter for
_OTHERS = "".join(chr(code) for code in range(0x80, 0xA0) if chr(code) not in _UNDEFINED)
_LETTERS = _OTHERS.encode("latin-1").decode("cp1252")


def as_utf8(text: Column) -> Column:
    """UTF-8 as it is; other bytes as `workers.rows.repaired_text` repairs them: UTF-8 with U+FFFD where it is
    damaged, else Windows-1252, else ASCII with U+FFFD.
    """
    damaged = F.make_valid_utf8(text)
    # Other encodings' bytes hardly ever make a letter of UTF-8: a text with some is UTF-8, cut or damaged.
    is_utf8 = F.replace(damaged, F.lit("\ufffd"), F.lit("")).rlike("[^\\x00-\\x7f]")
    latin = F.decode(text.cast("binary"), "ISO-8859-1")
    is_windows = ~latin.rlike(f"[{_UNDEFINED}]")
    repaired = F.when(~is_utf8 & is_windows, F.translate(latin, _OTHERS, _LETTERS)).otherwise(damaged)
    return F.when(F.is_valid_utf8(text), text).otherwise(repaired)


def whole_number(value: Column, held: T.DataType, wanted: T.IntegralType) -> Column:
    """A number without a fraction, of any type or in digits; null where it has one, or is too large."""
    if isinstance(held, T.IntegralType):
        return value.try_cast(wanted)
    exact = value.try_cast(T.DecimalType(38, 6)) if isinstance(held, T.StringType) else value
    return F.when(exact == F.floor(exact), exact.try_cast(wanted))
