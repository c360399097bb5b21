from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from recap_spark.workers.fetching.download import Request, download_all


@pytest.fixture
def obedient(limits):
    return replace(limits, robots_txt="obey")


@pytest.fixture
def site(handled):
    """A server with a robots.txt, or what stands in its place; `asked` are the paths in order, with times."""

    @contextmanager
    def start(robots=b"", *, code=200, headers=None, slow_s=0.0):
        asked = []

        def answer(handler):
            asked.append((handler.path, time.monotonic()))
            if handler.path == "/robots.txt":
                time.sleep(slow_s)
                handler.reply(code, robots, headers)
            else:
                handler.reply(200, b"picture")

        with handled(answer) as server:
            server.asked = asked
            server.base = server.url.removesuffix("/a.jpg")
            yield server

    return start


def fetched(urls, limits):
    requests = [Request(uid=str(number), url=url, sha256=None, attempts=0) for number, url in enumerate(urls)]
    found = {int(download.uid): download for download in download_all(requests, settings=limits)}
    return [found[number] for number in range(len(urls))]


def outcomes(urls, limits):
    return [(download.status, download.detail, download.attempts) for download in fetched(urls, limits)]


def paths(server):
    return [path for path, _ in server.asked]


def test_what_robots_txt_disallows_is_never_asked_for(site, obedient):
    rules = b"User-agent: *\nDisallow: /private/\nAllow: /private/open\n"
    with site(rules) as server:
        found = outcomes(
            [f"{server.base}{path}" for path in ("/a.jpg", "/private/b.jpg", "/private/open.jpg")], obedient
        )
    assert found == [("ok", None, 1), ("robots", "robots.txt disallows the url", 0), ("ok", None, 1)]
    assert sorted(paths(server)) == ["/a.jpg", "/private/open.jpg", "/robots.txt"]


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        (b"User-agent: recap-spark\nDisallow: /\n\nUser-agent: *\nAllow: /", "robots"),
        (b"User-agent: Recap-Spark\nAllow: /\n\nUser-agent: *\nDisallow: /", "ok"),
        (b"User-agent: otherbot\nDisallow: /", "ok"),
        (b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /*.jpg$\r\n", "robots"),
        (b"User-agent: *\nDisallow: /a.jpg?size=", "ok"),
        (b"\xff\xfe not text \x00\nUser-agent: *\nDisallow: /", "robots"),
        (b"<!doctype html><p>Welcome", "ok"),
        (b"", "ok"),
    ],
)
def test_the_group_of_our_own_token_goes_before_that_for_everyone(site, obedient, rules, status):
    with site(rules) as server:
        assert [download.status for download in fetched([server.url], obedient)] == [status]


def test_however_many_urls_wait_for_a_host_its_robots_txt_is_asked_for_once(site, obedient):
    with site(b"User-agent: *\nDisallow: /no", slow_s=0.3) as server:
        urls = [f"{server.base}/{'no' if number % 2 else 'yes'}/{number}" for number in range(50)]
        found = [download.status for download in fetched(urls, obedient)]
    assert found == ["ok", "robots"] * 25
    assert paths(server).count("/robots.txt") == 1
    assert not [path for path in paths(server) if path.startswith("/no")]


def test_waiting_for_robots_txt_costs_a_url_nothing_of_its_deadline(site, obedient):
    with site(slow_s=0.8) as server:
        assert fetched([server.url], replace(obedient, deadline_s=0.5))[0].status == "ok"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 204, 304])
def test_a_host_without_a_robots_txt_allows_everything(site, obedient, code):
    with site(code=code) as server:
        assert outcomes([server.url], obedient) == [("ok", None, 1)]


@pytest.mark.parametrize("code", [500, 503, 599])
def test_a_host_that_fails_to_give_its_robots_txt_is_asked_for_nothing_for_a_while(site, obedient, code):
    with site(code=code) as server:
        patient = replace(obedient, attempts=1)
        assert (
            outcomes([server.url] * 3, patient) == [("robots_unreachable", f"robots.txt: HTTP {code}", 1)] * 3
        )
    assert paths(server) == ["/robots.txt"]


def test_a_robots_txt_that_fails_once_is_asked_for_again_at_once_and_later(handled, obedient):
    asked = []

    def answer(handler):
        asked.append(handler.path)
        handler.reply(503 if len(asked) <= 2 else 200, b"")

    with handled(answer) as server:

        def in_two_goes():
            yield Request(uid="1", url=server.url, sha256=None, attempts=0)
            time.sleep(0.3)
            yield Request(uid="2", url=server.url, sha256=None, attempts=0)

        brief = replace(obedient, attempts=2, robots_unreachable_for_s=0.2, lookahead=1)
        found = [download.status for download in download_all(in_two_goes(), settings=brief)]
    assert found == ["robots_unreachable", "ok"]
    assert asked == ["/robots.txt", "/robots.txt", "/robots.txt", "/a.jpg"]


def test_a_robots_txt_is_asked_for_again_when_its_time_is_over(site, obedient):
    with site() as server:
        fleeting = replace(obedient, robots_ttl_s=0.0, connections=1, lookahead=1)
        assert [download.status for download in fetched([server.url] * 2, fleeting)] == ["ok"] * 2
    assert paths(server) == ["/robots.txt", "/a.jpg"] * 2


def test_a_wish_for_fewer_requests_is_no_permission(site, obedient):
    with site(code=429, headers={"Retry-After": "100"}) as server:
        impatient = replace(obedient, longest_retry_after_s=60.0)
        ((status, detail, attempts),) = outcomes([server.url], impatient)
    assert (status, detail, attempts) == ("throttled", "robots.txt: HTTP 429", 1)
    assert paths(server) == ["/robots.txt"]


def test_a_robots_txt_that_does_not_end_is_unreachable(web, obedient, handled):
    def answer(handler):
        handler.send_response_only(302 if handler.path == "/robots.txt" else 200)
        handler.send_header("Location", web.url("drip/a.jpg"))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with handled(answer) as server:
        found = outcomes([server.url], replace(obedient, robots_deadline_s=0.6))
    assert found == [("robots_unreachable", "robots.txt: not complete in 0.6 s", 1)]


def test_a_dead_host_ends_its_urls_as_dead_and_is_tried_once(obedient):
    urls = ["http://127.0.0.1:1/a.jpg", "http://127.0.0.1:1/b.jpg", "http://10.0.0.1/a.jpg"]
    found = outcomes(urls, replace(obedient, attempts=1, lookahead=1))
    assert [(status, attempts) for status, _, attempts in found] == [
        ("connect", 1),
        ("connect", 1),
        ("private_address", 1),
    ]
    assert all(detail.startswith("robots.txt: ") for _, detail, _ in found)


@pytest.mark.parametrize(("redirects", "status"), [(5, "robots"), (6, "ok")])
def test_redirects_of_robots_txt_are_followed_up_to_five(handled, obedient, redirects, status):
    asked = []

    def answer(handler):
        asked.append(handler.path)
        step = int(handler.path.removeprefix("/step/")) if handler.path.startswith("/step/") else 0
        if handler.path == "/a.jpg":
            handler.reply(200, b"picture")
        elif step < redirects:
            handler.reply(302, b"", {"Location": f"/step/{step + 1}"})
        else:
            handler.reply(200, b"User-agent: *\nDisallow: /")

    with handled(answer) as server:
        assert [download.status for download in fetched([server.url], obedient)] == [status]
    assert asked[:6] == ["/robots.txt", *[f"/step/{step}" for step in range(1, 6)]]
    assert asked[6:] == ([] if status == "robots" else ["/a.jpg"])


@pytest.mark.parametrize("target", ["http://user@127.0.0.1/", "file:///etc/passwd"])
def test_a_robots_txt_that_redirects_to_where_we_do_not_go_is_unreachable(site, obedient, target):
    with site(code=301, headers={"Location": target}) as server:
        ((status, detail, _),) = outcomes([server.url], obedient)
    assert status == "robots_unreachable"
    assert detail.startswith("robots.txt: redirect: ")
    assert paths(server) == ["/robots.txt"]


def test_a_robots_txt_that_redirects_inwards_never_opens_a_connection(site, obedient):
    with socket.create_server(("127.0.0.2", 0)) as listener:
        listener.setblocking(False)
        inside = f"http://127.0.0.2:{listener.getsockname()[1]}/robots.txt"
        with site(code=301, headers={"Location": inside}) as server:
            ((status, detail, _),) = outcomes([server.url], obedient)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (status, detail) == ("robots_unreachable", "robots.txt: address outside the public internet")
    assert paths(server) == ["/robots.txt"]


def test_a_redirect_asks_the_host_that_it_leads_to(site, obedient, handled):
    with site(b"User-agent: *\nDisallow: /") as other:
        target = other.url

        def answer(handler):
            if handler.path == "/robots.txt":
                handler.reply(404, b"")
            else:
                handler.reply(302, b"", {"Location": target})

        with handled(answer) as server:
            found = outcomes([server.url], obedient)
    assert found == [("robots", "robots.txt disallows the url", 1)]
    assert paths(other) == ["/robots.txt"]


def test_rules_beyond_the_cap_are_not_there(site, obedient):
    rules = b"User-agent: *\nDisallow: /x\n" + b"# filler\n" * 100 + b"Disallow: /\n"
    with site(rules) as server:
        assert fetched([server.url], obedient)[0].status == "robots"
        assert fetched([server.url], replace(obedient, robots_largest_bytes=500))[0].status == "ok"


@pytest.mark.parametrize(("asked_s", "kept_s"), [("0.3", 0.3), ("1000", 0.3), ("nonsense", 0.0)])
def test_a_crawl_delay_is_kept_up_to_a_cap(site, obedient, asked_s, kept_s):
    rules = f"User-agent: *\nCrawl-delay: {asked_s}\n".encode()
    with site(rules) as server:
        capped = replace(obedient, longest_crawl_delay_s=0.3)
        assert [download.status for download in fetched([server.url] * 4, capped)] == ["ok"] * 4
    times = [moment for path, moment in server.asked if path == "/a.jpg"]
    assert max(times) - min(times) >= 2 * kept_s  # of three delays: the first may be late


def test_robots_txt_may_be_ignored_by_settings(site, limits):
    with site(b"User-agent: *\nDisallow: /") as server:
        assert outcomes([server.url], replace(limits, robots_txt="ignore")) == [("ok", None, 1)]
    assert paths(server) == ["/a.jpg"]
