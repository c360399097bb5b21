"""No name, redirect or spelling leads to an address outside the public internet. Listeners prove it: where a
connection must not come, one waits, and nobody has knocked. 127.0.0.1 stands for the internet here, by way of
the settings' exceptions, and 127.0.0.2 for what lies inside.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import contextmanager
from dataclasses import replace

import pytest
from aiohttp.abc import AbstractResolver

from recap_spark.workers.fetching.attempts import UrlAttempts
from recap_spark.workers.fetching.client import open_client
from recap_spark.workers.fetching.failures import FetchError

OUTSIDE, INSIDE = "127.0.0.1", "127.0.0.2"


class Names(AbstractResolver):
    """Name servers of an attacker: each look-up of a name gets the next answer, and the last for ever."""

    def __init__(self, **answers):
        self._answers = {name: deque(addresses) for name, addresses in answers.items()}
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        answers = self._answers[host.lower().partition(".")[0]]
        addresses = answers[0] if len(answers) == 1 else answers.popleft()
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in addresses
        ]

    async def close(self):
        """Nothing is open."""


@contextmanager
def nobody_knocks(port=0, *, address=INSIDE):
    with socket.create_server((address, port)) as listener:
        listener.setblocking(False)
        yield listener.getsockname()[1]
        with pytest.raises(BlockingIOError):
            listener.accept()


def outcomes(urls, limits, *, names):
    """What becomes of urls, one after the other, in one client."""

    async def one_by_one():
        found = []
        async with open_client(limits, resolver=names) as client:
            for url in urls:
                url_attempts = UrlAttempts(clock=asyncio.timeout(limits.deadline_s))
                try:
                    async with url_attempts.clock:
                        await client.attempt(url, url_attempts=url_attempts)
                    found.append("ok")
                except FetchError as error:
                    found.append(str(error.status))
        return found

    return asyncio.run(one_by_one())


@pytest.fixture
def fresh(limits):
    """Every url asks the name servers anew, and its host for a connection of its own."""
    return replace(limits, dns_ttl_s=0, keep_alive_s=0.0, attempts=1)


# One of each block of the lists that test_addresses goes through.
INSIDE_ADDRESSES = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.2",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.2",
    "64:ff9b::7f00:2",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:2",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:2::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", INSIDE_ADDRESSES)
def test_a_name_that_resolves_inwards_opens_no_connection(fresh, address):
    with nobody_knocks() as port:
        names = Names(evil=[[address]])
        assert outcomes([f"http://evil.example:{port}/a.jpg"], fresh, names=names) == ["private_address"]
    assert names.asked == ["evil.example"]


def test_of_a_names_addresses_only_those_outside_are_tried(web, fresh):
    port = int(web.server.base_url.rpartition(":")[2])
    with nobody_knocks(port):
        names = Names(mixed=[[INSIDE, OUTSIDE, "::1", "169.254.169.254"]])
        assert outcomes([f"http://mixed.example:{port}/images/a.jpg"], fresh, names=names) == ["ok"]


def test_a_name_that_changes_between_look_ups_leads_where_it_was_checked_or_nowhere(web, fresh):
    port = int(web.server.base_url.rpartition(":")[2])
    url = f"http://rebinds.example:{port}/images/a.jpg"
    with nobody_knocks(port):
        names = Names(rebinds=[[OUTSIDE], [INSIDE], [OUTSIDE]])
        assert outcomes([url] * 3, fresh, names=names) == ["ok", "private_address", "ok"]
    assert len(names.asked) == 3


def test_a_name_that_changes_while_it_is_asked_for_robots_txt_leads_nowhere(web, fresh):
    port = int(web.server.base_url.rpartition(":")[2])
    obedient = replace(fresh, robots_txt="obey")
    with nobody_knocks(port):
        names = Names(rebinds=[[OUTSIDE], [INSIDE]])
        url = f"http://rebinds.example:{port}/images/a.jpg"
        assert outcomes([url] * 2, obedient, names=names) == ["private_address"] * 2


def test_a_remembered_address_is_checked_again_by_every_connection(web, fresh):
    port = int(web.server.base_url.rpartition(":")[2])
    remembering = replace(fresh, dns_ttl_s=60)
    with nobody_knocks(port):
        names = Names(evil=[[INSIDE]])
        urls = [f"http://evil.example:{port}/images/a.jpg"] * 3
        assert outcomes(urls, remembering, names=names) == ["private_address"] * 3
    assert len(names.asked) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_name_that_resolves_inwards_opens_no_connection(handled, fresh, code):
    with nobody_knocks() as port:

        def answer(handler):
            handler.reply(code, b"", {"Location": f"http://evil.example:{port}/"})

        with handled(answer) as server:
            assert outcomes([server.url], fresh, names=Names(evil=[[INSIDE]])) == ["private_address"]


def test_a_name_with_a_dot_at_its_end_or_in_other_letters_is_the_same_name(fresh):
    with nobody_knocks() as port:
        names = Names(evil=[[INSIDE]])
        urls = [f"http://{host}:{port}/" for host in ("evil.example.", "EVIL.example", "evil.ｅxample")]
        assert outcomes(urls, fresh, names=names) == ["private_address"] * 3


def test_an_exception_for_one_network_opens_no_other(web, fresh):
    port = int(web.server.base_url.rpartition(":")[2])
    with nobody_knocks(port), nobody_knocks(port, address="127.0.1.1"):
        names = Names(near=[[INSIDE]], far=[["127.0.1.1"]], mapped=[[f"::ffff:{INSIDE}"]])
        urls = [f"http://{name}.example:{port}/" for name in ("near", "far", "mapped")]
        assert outcomes(urls, fresh, names=names) == ["private_address"] * 3


def test_a_long_list_of_names_does_not_fill_the_memory_of_addresses(web, fresh):
    port = int(web.server.base_url.rpartition(":")[2])
    forgetful = replace(fresh, dns_ttl_s=60, hosts_remembered=2)
    names = Names(**{name: [[OUTSIDE]] for name in "abc"})
    urls = [f"http://{name}.example:{port}/images/a.jpg" for name in "abcca"]
    assert outcomes(urls, forgetful, names=names) == ["ok"] * 5
    assert names.asked == ["a.example", "b.example", "c.example", "a.example"]
