from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from downloads import only, requests, statuses

from recap_spark.miniature.server import serve
from recap_spark.workers.fetching.download import Request, download_all


def test_no_host_sees_more_requests_at_once_than_allowed(handled, limits):
    at_once, most = 0, 0
    lock = threading.Lock()

    def answer(handler):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        handler.reply(200, b"picture")

    with handled(answer) as server:
        polite = replace(limits, connections_per_host=2)
        found = [download.status for download in download_all(requests(*[server.url] * 30), settings=polite)]
    assert found == ["ok"] * 30
    assert most == 2


def test_requests_to_one_host_keep_the_delay_and_waiting_for_it_costs_no_deadline(handled, limits):
    times = []

    def answer(handler):
        times.append(time.monotonic())
        handler.reply(200, b"picture")

    with handled(answer) as server:
        polite = replace(limits, host_delay_s=0.2, deadline_s=1.0)
        found = [download.status for download in download_all(requests(*[server.url] * 8), settings=polite)]
    assert found == ["ok"] * 8
    assert max(times) - min(times) > 1.1  # seven delays


def test_a_failure_that_may_pass_is_tried_again_and_a_lasting_one_is_not(web, limits):
    persistent = replace(limits, attempts=3)
    assert only(web.url("flaky/b.png"), persistent).attempts == 2
    assert only(web.url("error/b.png"), persistent).attempts == 3
    assert only(web.url("missing/b.png"), persistent).attempts == 1


def test_attempts_of_earlier_runs_are_added(web, limits):
    (download,) = download_all(
        [Request(uid="u", url=web.url("missing/a.jpg"), sha256=None, attempts=4)], settings=limits
    )
    assert download.attempts == 5


@pytest.mark.parametrize("retry_after", ["1", "1000000000", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_retry_after_is_honoured_up_to_a_cap(handled, limits, retry_after):
    times = []

    def answer(handler):
        times.append(time.monotonic())
        if len(times) == 1:
            handler.reply(429, b"", {"Retry-After": retry_after})
        else:
            handler.reply(200, b"picture")

    with handled(answer) as server:
        assert only(server.url, limits).status == "ok"
    assert times[1] - times[0] == pytest.approx(1.0 if retry_after == "1" else 1.5, abs=0.2)


def test_a_wait_beyond_the_deadline_is_not_begun_and_holds_for_the_whole_host(handled, limits):
    with handled(lambda handler: handler.reply(429, b"", {"Retry-After": "50"})) as server:
        patient = replace(limits, longest_retry_after_s=60.0, connections_per_host=1)
        started = time.monotonic()
        first, *others = download_all(requests(*[server.url] * 5), settings=patient)
    assert time.monotonic() - started < 1
    assert (first.status, first.detail, first.attempts) == ("throttled", "HTTP 429", 1)
    assert {(other.status, other.attempts) for other in others} == {("throttled", 0)}


def test_a_server_that_closes_kept_connections_costs_no_attempt(handled, limits):
    with handled(lambda handler: handler.reply(200, b"picture", {}, close=True)) as server:
        one_by_one = replace(limits, connections=1)
        found = list(download_all(requests(*[server.url] * 20), settings=one_by_one))
    assert {(download.status, download.attempts) for download in found} == {("ok", 1)}


def test_a_dead_host_is_left_alone_and_tried_again_after_a_while(web, limits, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(web.pictures["a.jpg"])
    wary = replace(
        limits, attempts=1, dead_after_failures=3, dead_for_s=1.0, connections_per_host=1, lookahead=1
    )
    url = f"http://127.0.0.1:{port}/images/a.jpg"

    def in_two_goes():
        yield from requests(*[url] * 8)
        with serve(tmp_path, port=port):
            time.sleep(1.0)
            yield from requests(*[url] * 3)

    found = [(download.status, download.attempts) for download in download_all(in_two_goes(), settings=wary)]
    assert found == [("connect", 1)] * 3 + [("host_down", 0)] * 5 + [("ok", 1)] * 3


def test_a_silent_host_costs_one_deadline_however_many_urls_it_has(handled, limits):
    asked = []

    def answer(handler):
        asked.append(handler.path)
        time.sleep(1.5)
        handler.reply(200, b"late")

    with handled(answer) as server:
        wary = replace(limits, attempts=1, deadline_s=0.5, dead_after_failures=4, connections_per_host=4)
        found = [download.status for download in download_all(requests(*[server.url] * 30), settings=wary)]
    assert Counter(found) == {"timeout": 4, "host_down": 26}
    assert len(asked) == 4


def test_hosts_are_forgotten_beyond_the_number_remembered(web, limits):
    urls = [f"http://127.0.1.{number}:1/" for number in range(100)] + [web.url("images/a.jpg")]
    forgetful = replace(limits, hosts_remembered=2, reachable_private_networks=("127.0.0.0/8",))
    assert sorted(statuses(urls, forgetful).values()) == ["connect"] * 100 + ["ok"]
