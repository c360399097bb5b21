"""url → its host and its top-level domain, as Spark columns"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# By a pattern: java.net.URI, behind parse_url, refuses blanks and underscores, which the web's urls have.
_HOST = r"^(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//(?:[^/?#]*@)?(\[[^\]/?#]*\]|[^/?#:]*)"
_WITHOUT_SCHEME = r"^([^/?#:@\s]+\.[^/?#:@\s]+)"


def host(url: Column) -> Column:
    """The lower-case host of a url, empty where it has none."""
    written = F.regexp_extract(url, _HOST, 1)
    found = F.when(written == "", F.regexp_extract(url, _WITHOUT_SCHEME, 1)).otherwise(written)
    return F.lower(F.rtrim(found, F.lit(".")))


def top_level_domain(host: Column) -> Column:
    """The last label of a host: `com`; empty for an address, which has none."""
    label = F.regexp_extract(host, r"\.([^.\]]+)$", 1)
    return F.when(label.rlike(r"^[0-9]+$"), F.lit("")).otherwise(label)
