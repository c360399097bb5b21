"""How far a fetch may go: for one url, one host, one worker process or executor"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from recap_spark.settings.values import (
    Bytes,
    Count,
    CountOrNone,
    HttpUrl,
    Place,
    Port,
    Seconds,
    SecondsOrNone,
)

Hash = Literal["sha256", "md5", "sha512"]

_AT_LEAST_ONE = (
    "attempts",
    "connections",
    "connections_per_host",
    "lookahead",
    "dns_threads",
    "hosts_remembered",
    "dead_after_failures",
    "bytes_in_flight",
    "batch_rows",
    "robots_largest_bytes",
)


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Every knob of the fetch stage's workers. It is pickled to them, so it holds values only."""

    # Who is asking
    user_agent: str  # "name/version"; the name is also our token in robots.txt and X-Robots-Tag
    contact_url: HttpUrl

    # One url
    deadline_s: Seconds  # DNS, connecting, redirects, bodies and all attempts together
    connect_s: Seconds  # one connection, TLS included
    largest_bytes: Bytes  # a body is cut off here, not measured afterwards
    redirects: CountOrNone
    attempts: Count
    backoff_s: SecondsOrNone  # before the second attempt; doubles with each, and varies by half
    longest_retry_after_s: SecondsOrNone  # a server's longer wish is taken for this one
    compute_hash: Hash  # of the raw bytes; sha256 is stored whatever is chosen
    hash_mismatch: Literal["refuse", "keep", "ignore"]  # ignore: not compared

    # Where it may lead
    reachable_private_networks: tuple[str, ...]  # exceptions from "public addresses only", as CIDR
    ports: tuple[Port, ...] | None  # None: any
    opted_out_domains: frozenset[str]  # with all their subdomains
    opted_out_urls: frozenset[str]
    opted_out_file: Place | None  # more of both, one a line; read on the driver, by `optouts.with_opt_outs`

    # What its owner reserves
    disallowed_directives: frozenset[str]  # of X-Robots-Tag
    tdm_reservation: Literal["refuse", "ignore"]
    robots_txt: Literal["obey", "ignore"]
    robots_deadline_s: Seconds  # for robots.txt, beside the url's own
    robots_largest_bytes: Bytes  # what lies beyond is not there (RFC 9309, 2.5)
    robots_ttl_s: SecondsOrNone
    robots_unreachable_for_s: SecondsOrNone  # how long a host that gives none is left alone
    robots_memory_bytes: Bytes  # of text, a process; parsed, it is some twenty times as large
    robots_disk_bytes: Bytes  # of the executor, where its processes share
    longest_crawl_delay_s: SecondsOrNone  # a host's longer wish is taken for this one

    # Hosts
    connections: Count  # a process's, open at once over all hosts
    hosts_shared_by: Literal["executor", "process"]  # whose connections_per_host and host_delay_s are
    connections_per_host: Count
    host_delay_s: SecondsOrNone  # between the starts of two requests to one host
    lookahead: Count  # urls taken from the input at once; those that wait for their host let others pass
    keep_alive_s: SecondsOrNone
    dns_ttl_s: CountOrNone
    dns_threads: Count  # getaddrinfo blocks one each
    hosts_remembered: Count  # DNS answers, and what is known of a host's state
    dead_after_failures: Count  # in a row
    dead_for_s: SecondsOrNone  # then one url tries again

    # Memory
    bytes_in_flight: Bytes
    batch_bytes: Bytes
    batch_rows: Count

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:  # the downloader would wait for ever
                raise ValueError(f"{name}: want at least 1, found {getattr(self, name)}")
        if self.robots_disk_bytes < 4 * self.robots_largest_bytes:
            raise ValueError(
                f"robots_disk_bytes: want four times robots_largest_bytes, found {self.robots_disk_bytes}"
            )
        for network in self.reachable_private_networks:
            ip_network(network)
        for name in ("opted_out_domains", "disallowed_directives"):
            wrong = [word for word in getattr(self, name) if not _is_plain(word)]
            if wrong:  # hosts and directives are compared in lower case, so these would never match
                raise ValueError(f"{name}: want lower-case ASCII without outer dots, found {wrong}")

    @property
    def agent_token(self) -> str:
        """The name that robots rules would use for us."""
        return self.user_agent.partition("/")[0].strip().lower()

    @property
    def request_headers(self) -> dict[str, str]:
        return {
            "User-Agent": f"{self.user_agent} (+{self.contact_url})",
            # A list of formats would make image servers re-encode, and then no published sha256 matches.
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }


def _is_plain(word: str) -> bool:
    return word.isascii() and word == word.lower().strip(".")
