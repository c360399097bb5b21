"""Domains and urls that are not to be fetched, from the settings and a file → the fetch's limits"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from yarl import URL

from recap_spark.errors import SettingsError
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.workers.fetching.failures import FetchError
from recap_spark.workers.fetching.urls import host_name, plain_url

_DOMAIN = re.compile(r"[a-z0-9_.:-]+")  # and addresses


def with_opt_outs(limits: FetchLimits) -> FetchLimits:
    """The same limits, with what their `opted_out_file` says: one domain or url a line, `#` for comments.

    A domain stands for its subdomains too, `*.` before it or not; a url for all its spellings. To be called
    once, where the file is: the limits carry its lines to the workers. Raises SettingsError for a line that
    is neither, with its number.
    """
    named = "fetch.limits.opted_out_domains"
    domains = {_domain(entry, at=named) for entry in limits.opted_out_domains}
    urls = {_url(entry, at="fetch.limits.opted_out_urls") for entry in limits.opted_out_urls}
    path = limits.opted_out_file
    for number, line in enumerate(_lines(Path(path)) if path is not None else (), start=1):
        entry = "" if line.startswith("#") else line.partition(" #")[0].strip()
        if "://" in entry:
            urls.add(_url(entry, at=f"{path}:{number}"))
        elif entry:
            domains.add(_domain(entry, at=f"{path}:{number}"))
    return replace(limits, opted_out_domains=frozenset(domains), opted_out_urls=frozenset(urls))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"fetch.limits.opted_out_file: want a text file of domains and urls: {error}"
        ) from error


def _url(entry: str, *, at: str) -> str:
    try:
        return plain_url(entry)
    except FetchError as error:
        raise SettingsError(f"{at}: want an http url, found {entry[:80]!r}: {error}") from error


def _domain(entry: str, *, at: str) -> str:
    name = entry.removeprefix("*.").strip(".")
    try:
        host = host_name(URL.build(scheme="http", host=name))
    except ValueError as error:
        raise SettingsError(f"{at}: want a domain, found {entry[:80]!r}: {error}") from error
    if not _DOMAIN.fullmatch(host):
        raise SettingsError(f"{at}: want a domain, found {entry[:80]!r}")
    return host
