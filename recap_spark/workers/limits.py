"""How far a fetch may go: for one url, one host, one worker process, one picture"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

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
)


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Every knob of the fetch stage's workers. It is pickled to them, so it holds values only."""

    # Who is asking
    user_agent: str  # "name/version"; the name is also our token in X-Robots-Tag
    contact_url: str

    # One url
    deadline_s: float  # DNS, connecting, redirects, bodies and all attempts together
    connect_s: float  # one connection, TLS included
    largest_bytes: int  # a body is cut off here, not measured afterwards
    redirects: int
    attempts: int
    backoff_s: float  # before the second attempt; doubles with each, and varies by half
    longest_retry_after_s: float  # a server's longer wish is taken for this one
    hash_mismatch: Literal["refuse", "keep"]

    # Where it may lead
    reachable_private_networks: tuple[str, ...]  # exceptions from "public addresses only", as CIDR
    ports: tuple[int, ...] | None  # None: any
    opted_out_domains: frozenset[str]  # with all their subdomains
    opted_out_urls: frozenset[str]

    # What its owner reserves
    disallowed_directives: frozenset[str]  # of X-Robots-Tag
    tdm_reservation: Literal["refuse", "ignore"]

    # Hosts
    connections: int  # open at once, over all hosts
    connections_per_host: int
    host_delay_s: float  # between the starts of two requests to one host
    lookahead: int  # urls taken from the input at once; those that wait for their host let others pass
    keep_alive_s: float
    dns_ttl_s: int
    dns_threads: int  # getaddrinfo blocks one each
    hosts_remembered: int  # DNS answers, and what is known of a host's state
    dead_after_failures: int  # in a row
    dead_for_s: float  # then one url tries again

    # Memory
    bytes_in_flight: int
    batch_bytes: int
    batch_rows: int

    # Pictures
    largest_pixels: int

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:  # the downloader would wait for ever
                raise ValueError(f"{name}: want at least 1, found {getattr(self, name)}")
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
