"""IP address → whether a url from the open web may lead there"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

# `ipaddress.is_global` changes between Python's patch releases and calls multicast, 6to4 and Azure's wire
# server global, so the lists are written out: IANA's special-purpose registries, and the clouds' own pages.
_CLOSED_V4 = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service is 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's wire server: a public address that answers from inside only
        "169.254.0.0/16",  # link-local; the metadata service of AWS, Azure and Google is 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

# Only 2000::/3 is handed out as global unicast: loopback, unspecified, fc00::/7, fe80::/10, fec0::/10,
# ff00::/8, the local NAT64 prefix 64:ff9b:1::/48 and IPv4-compatible ::/96 all lie outside it.
_OPEN_V6 = ip_network("2000::/3")
_CLOSED_V6 = tuple(
    ip_network(block)
    for block in (
        "2001::/23",  # protocol assignments, with Teredo (2001::/32) and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address, and no honest host needs it any more
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


class PrivateAddressError(OSError):
    """The socket would have led outside the public internet."""

    # The text never varies: aiohappyeyeballs keeps an error's type only if all of a host's addresses raise
    # the same text.
    def __init__(self) -> None:
        super().__init__("address outside the public internet")


def is_public(address: str) -> bool:
    """True for an address of the public internet; an embedded IPv4 address is judged in its place."""
    ip = _unwrapped(address)
    if isinstance(ip, IPv4Address):
        return not any(ip in block for block in _CLOSED_V4)
    return ip in _OPEN_V6 and not any(ip in block for block in _CLOSED_V6)


def guarded_sockets(private_networks: Iterable[str]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """A function that makes sockets for public addresses and the named private networks, and raises for all
    others.

    It sees the final address of every connection. So it also stops an IP address written in the url, for
    which no resolver is asked, and a name that resolves differently the second time.
    """
    reachable = tuple(ip_network(network) for network in private_networks)

    def guarded_socket(addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, sockaddr = addr_info
        address = str(sockaddr[0])
        if not is_public(address) and not any(_unwrapped(address) in network for network in reachable):
            raise PrivateAddressError
        return socket.socket(family=family, type=kind, proto=protocol)

    return guarded_socket


def _unwrapped(address: str) -> IPv4Address | IPv6Address:
    ip = ip_address(address.partition("%")[0])  # fe80::1%eth0 names an interface
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:  # how a machine without IPv4 reaches all of it, public or not
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip
