from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace

import pytest
from downloads import only, requests, statuses

from recap_spark.workers.fetching.download import download_all

FAULTS = {
    "images/a.jpg": "ok",
    "mislabelled/a.jpg": "ok",
    "swapped/a.jpg": "ok",
    "throttled/a.jpg": "ok",
    "flaky/a.jpg": "ok",
    "redirect/4/a.jpg": "ok",
    "webpage/a.jpg": "ok",  # bytes are bytes; whether they are a picture is decided elsewhere
    "truncated/a.jpg": "ok",
    "missing/a.jpg": "gone",
    "gone/a.jpg": "gone",
    "forbidden/a.jpg": "forbidden",
    "error/a.jpg": "http_5xx",
    "redirect/5/a.jpg": "redirect_limit",
    "loop/a.jpg": "redirect_limit",
    "inward/a.jpg": "private_address",
    "away/a.jpg?to=file:///etc/hostname": "unsupported_scheme",
    "away/a.jpg?to=http://user:word@127.0.0.1/": "bad_url",
    "away/a.jpg?to=http://[::1": "bad_url",
    "away/a.jpg?to=http://img.optedout.example/a.jpg": "opted_out",
    "robots/a.jpg": "robots",
    "reserved/a.jpg": "reserved",
    "cut/a.jpg": "incomplete",
    "closed/a.jpg": "connect",
    "garbage/a.jpg": "protocol",
    "badgzip/a.jpg": "protocol",
    "oversized/a.jpg": "too_large",
    "bomb/a.jpg": "too_large",
    "drip/a.jpg": "timeout",
    "slowhead/a.jpg": "timeout",
}


def test_every_fault_of_a_server_ends_in_its_status_and_none_outlives_its_deadline(web, limits):
    urls = {web.url(path): status for path, status in FAULTS.items()}
    started = time.monotonic()
    found = statuses(list(urls), limits)
    assert found == urls
    assert time.monotonic() - started < limits.deadline_s + 1.5


def test_every_malformed_url_ends_in_its_status(limits):
    urls = {
        None: "bad_url",
        "": "bad_url",
        "no scheme at all": "bad_url",
        "//127.0.0.1/a.jpg": "bad_url",
        "http:///a.jpg": "bad_url",
        "http://[::1": "bad_url",
        "http://127.0.0.1:99999/": "bad_url",
        "http://a[]@//": "bad_url",
        "http://user@127.0.0.1/": "bad_url",
        "http://user:word@127.0.0.1/": "bad_url",
        f"http://{'a' * 70}.com/": "bad_url",
        "http://a..b/": "bad_url",
        "file:///etc/passwd": "unsupported_scheme",
        "ftp://127.0.0.1/a.jpg": "unsupported_scheme",
        "data:image/png;base64,AAAA": "unsupported_scheme",
        "http://optedout.example/": "opted_out",
        "http://img.OptedOut.example./a.jpg": "opted_out",
        "http://127.0.0.1/private.jpg": "opted_out",
        "http://notoptedout.invalid/a.jpg": "dns",
        "http://127.0.0.1:1/refused": "connect",
    }
    # A resolver without a network may take its time to say that it knows no such name.
    assert statuses(list(urls), replace(limits, deadline_s=30.0)) == urls


def test_details_hold_no_query_which_may_be_a_signed_token(web, limits):
    paths = [path for path in FAULTS if "?" not in path]
    urls = [web.url(f"{path}?token=hush") for path in paths] + [
        "http://127.0.0.1:1/?token=hush",
        "ftp://x/?hush",
    ]
    details = [download.detail or "" for download in download_all(requests(*urls), settings=limits)]
    assert len(details) == len(urls)
    assert not [detail for detail in details if "hush" in detail]


def test_the_hash_is_of_the_bytes_that_came_and_is_compared_with_the_promised_one(web, limits):
    right = hashlib.sha256(web.pictures["a.jpg"]).hexdigest()
    wrong = hashlib.sha256(b"another picture").hexdigest()
    url = web.url("images/a.jpg")

    unknown = only(url, limits)
    assert (unknown.sha256, unknown.sha256_matches, unknown.body) == (right, None, web.pictures["a.jpg"])
    matching = only(url, limits, sha256=right.upper())
    assert (matching.status, matching.sha256_matches) == ("ok", True)
    other = only(url, limits, sha256=wrong)
    assert (other.status, other.sha256, other.sha256_matches) == ("ok", right, False)


def test_an_announced_length_over_the_cap_is_refused_without_reading(handled, limits):
    with handled(lambda handler: handler.reply(200, b"", {"Content-Length": str(1 << 40)})) as server:
        download = only(server.url, limits)
    assert (download.status, download.detail) == ("too_large", f"announces {1 << 40} bytes")


def test_few_bytes_in_flight_slow_the_fetch_down_but_never_stop_it(web, limits):
    narrow = replace(limits, bytes_in_flight=1)
    urls = [web.url(f"images/{name}") for name in web.pictures] * 20
    assert [download.status for download in download_all(requests(*urls), settings=narrow)] == ["ok"] * 60


def test_a_slow_consumer_does_not_make_urls_time_out(web, limits):
    narrow = replace(limits, bytes_in_flight=len(web.pictures["a.jpg"]), deadline_s=0.5, connections=4)
    found = []
    for download in download_all(requests(*[web.url("images/a.jpg")] * 12), settings=narrow):
        found.append(download.status)
        time.sleep(0.6 if len(found) < 3 else 0)
    assert found == ["ok"] * 12


def test_urls_are_drawn_no_faster_than_downloads_are_taken(web, limits):
    drawn = 0

    def many():
        nonlocal drawn
        for request in requests(*[web.url("images/a.jpg")] * 300):
            drawn += 1
            yield request

    narrow = replace(limits, lookahead=10)
    ahead = [drawn - taken for taken, _ in enumerate(download_all(many(), settings=narrow), start=1)]
    assert len(ahead) == 300
    assert max(ahead) < 10


def test_closing_early_leaves_no_thread_behind(web, limits):
    downloads = download_all(
        requests(*[web.url("drip/a.jpg"), *[web.url("images/a.jpg")] * 50]), settings=limits
    )
    next(downloads)
    downloads.close()
    assert "fetch" not in [thread.name for thread in threading.enumerate()]


def test_an_error_in_the_input_reaches_the_caller(web, limits):
    def broken():
        yield from requests(web.url("images/a.jpg"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(download_all(broken(), settings=limits))


def test_limits_that_would_never_start_are_refused(limits):
    with pytest.raises(ValueError, match="lookahead: want at least 1, found 0"):
        replace(limits, lookahead=0)
