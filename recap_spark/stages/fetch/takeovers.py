"""rows of images → a warning, once, where a single setting decides how most of them end"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.download import NO_HASH

log = logging.getLogger(__name__)

# Fewer say nothing of the rest: they may all be of one host. After so many the count begins anew, or what
# begins in the middle of a long run would be outweighed by what came before.
_FEWEST, _WINDOW = 30, 10_000

_DECIDED_BY = {
    FetchStatus.OPTED_OUT: "fetch.limits.opted_out_domains, opted_out_urls and opted_out_file decide",
    FetchStatus.PRIVATE_ADDRESS: "fetch.limits.reachable_private_networks decides",
    FetchStatus.ROBOTS: "fetch.limits.robots_txt and disallowed_directives decide",
    FetchStatus.RESERVED: "fetch.limits.tdm_reservation and disallowed_directives decide",
    FetchStatus.TOO_LARGE: "fetch.limits.largest_bytes decides",
    FetchStatus.TOO_MANY_PIXELS: "fetch.decode.largest_pixels decides",
    FetchStatus.TOO_SMALL: "fetch.picture.min_image_size decides",
    FetchStatus.ASPECT_RATIO: "fetch.picture.max_aspect_ratio decides",
    FetchStatus.BAD_FACE_BOX: "fetch.picture.faces decides",
}
"""The statuses that settings decide, and which. A bad_url is one of them where its port was refused."""

_PORT, _MISMATCH, _NO_HASH = "refused port", "hash mismatch", "no hash"


@dataclass
class Takeovers:
    """Counts how the rows of one run end, as its units are committed, and warns once of each cause. For any
    thread.
    """

    stage: str
    said: set[str] = field(default_factory=set)
    _ends: Counter[str] = field(default_factory=Counter)
    _hashes: Counter[bool | None] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look_at(self, images: DataFrame) -> None:
        """Count these rows of images too. Warns where more than half ended because of one setting, or where
        more than half of the pictures whose hash is known differ from the promised ones.
        """
        is_port = (F.col("status") == str(FetchStatus.BAD_URL)) & F.col("detail").startswith("port ")
        is_without = F.col("detail") == NO_HASH
        end = F.when(is_port, _PORT).when(is_without, _NO_HASH).otherwise(F.col("status")).alias("end")
        counted = images.groupBy(end, "sha256_matches").count().collect()
        with self._lock:
            for row in counted:
                self._ends[row["end"]] += row["count"]
                self._hashes[row["sha256_matches"]] += row["count"]
            self._warn()
            if self._ends.total() >= _WINDOW:
                self._ends.clear()
                self._hashes.clear()

    def _warn(self) -> None:
        rows, compared = self._ends.total(), self._hashes[True] + self._hashes[False]
        for end, count in self._ends.items():
            if end in {*_DECIDED_BY, _PORT} and _takes_over(count, of=rows):
                self._say(end, f"{count} of {rows} rows ended {_advice(end)}")
        if _takes_over(count := self._ends[_NO_HASH], of=rows):
            self._say(_NO_HASH, f"{count} of {rows} rows: {NO_HASH}")
        if _takes_over(self._hashes[False], of=compared):
            found = f"{self._hashes[False]} of {compared} pictures are not what samples.sha256 promises"
            decides = "fetch.limits.hash_mismatch decides what becomes of them"
            self._say(_MISMATCH, f"{found}: its hashes may be of other files; {decides}")

    def _say(self, what: str, words: str) -> None:
        if what not in self.said:
            self.said.add(what)
            log.warning("%s: %s", self.stage, words)


def _takes_over(count: int, *, of: int) -> bool:
    return count >= _FEWEST and 2 * count > of


def _advice(end: str) -> str:
    remedy = "`recap-spark retry --status {}` tries them again once it is changed"
    if end == _PORT:
        return f"bad_url for their port: fetch.limits.ports decides; {remedy.format(FetchStatus.BAD_URL)}"
    return f"{end}: {_DECIDED_BY[FetchStatus(end)]}; {remedy.format(end)}"
