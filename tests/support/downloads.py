"""Downloads by url, for tests of what comes of them"""

from __future__ import annotations

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.download import Download, Request, download_all


def requests(*urls: str, sha256: str | None = None) -> list[Request]:
    return [Request(uid=str(number), url=url, sha256=sha256, attempts=0) for number, url in enumerate(urls)]


def statuses(urls: list[str], limits: FetchLimits) -> dict[str, FetchStatus]:
    return {
        urls[int(download.uid)]: download.status
        for download in download_all(requests(*urls), settings=limits)
    }


def only(url: str, limits: FetchLimits, **request) -> Download:
    asked = Request(uid="u", url=url, attempts=0, **{"sha256": None} | request)
    (download,) = download_all([asked], settings=limits)
    return download
