"""a hash as metadata spells it → the hash as the workers know it, or null"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from recap_spark.workers.metadata.sha256 import BLANKS


def known_sha256(text: Column) -> Column:
    """64 hexadecimal digits, in lower case; capitals and blanks around them are accepted. Null for anything
    else, as in `workers.metadata.sha256.known_sha256`.
    """
    # 64 digits have no blanks: most hashes are spared the search for them, which costs more than all else.
    folded = F.lower(F.when(F.octet_length(text) == 64, text).otherwise(F.btrim(text, F.lit(BLANKS))))
    return F.when((F.octet_length(folded) == 64) & F.unhex(folded).isNotNull(), folded)
