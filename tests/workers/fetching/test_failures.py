"""The fault matrix: every way that a server, a name or a url is known to fail ends in one status, within the
deadline, and no row is lost.
"""

from __future__ import annotations

import ssl
import subprocess
import time
from dataclasses import replace

import pyarrow as pa
import pytest
from faulty_replies import HELD_OUT_S, REPLIES
from faulty_server import full_backlog, misbehaving

from recap_spark.statuses import PASSING_FAILURES, FetchStatus
from recap_spark.workers.fetching.fetcher import fetch_rows

# url → its status, without the server.
URLS = {
    None: "bad_url",
    "": "bad_url",
    "no scheme at all": "bad_url",
    "www.example.org/a.jpg": "bad_url",
    "//127.0.0.1/a.jpg": "bad_url",
    "http://": "bad_url",
    "http://[::1": "bad_url",
    "http://a..b/": "bad_url",
    "http://user@127.0.0.1/": "bad_url",
    "http://127.0.0.1:99999/": "bad_url",
    f"http://{'a' * 70}.example/": "bad_url",
    "http://exa\x00mple.org/": "dns",
    "file:///etc/passwd": "unsupported_scheme",
    "ftp://127.0.0.1/a.jpg": "unsupported_scheme",
    "data:image/png;base64,AAAA": "unsupported_scheme",
    "gopher://127.0.0.1/": "unsupported_scheme",
    "http://optedout.example/a.jpg": "opted_out",
    "http://127.0.0.1/private.jpg": "opted_out",
    "http://169.254.169.254/latest/meta-data/": "private_address",
    "http://[::ffff:169.254.169.254]/": "private_address",
    "http://①⑨②.①⑥⑧.⓪.①/": "private_address",
    "http://100.100.100.200/": "private_address",
    "http://127.0.0.1:1/": "connect",
}

# What else can be wrong with a url's writing: it is asked for all the same.
SPELLINGS = {
    "with space": b"/with%20space",
    "with%20space": b"/with%20space",
    "pict\u00fcre": b"/pict%C3%BCre",
    "a?b=c&amp;d=%7E%zz": b"/a?b=c&amp;d=%7E%zz",
    "  padded  ": b"/padded",
    "a#fragment": b"/a",
}


@pytest.fixture
def fetched(decode, rules):
    """url → its row; a url without exactly one is an error."""

    def fetched(urls, limits):
        uids = [f"{number:032x}" for number in range(len(urls))]
        batch = pa.RecordBatch.from_pydict(
            {"uid": uids, "url": pa.array(urls, pa.string()), "sha256": pa.nulls(len(urls), pa.string())}
        )
        found = fetch_rows([batch], settings=limits, decode=decode, rules=rules)
        rows = [row for some in found for row in some.to_pylist()]
        assert sorted(row["uid"] for row in rows) == uids
        by_uid = {row["uid"]: row for row in rows}
        return dict(zip(urls, (by_uid[uid] for uid in uids), strict=True))

    return fetched


@pytest.fixture
def obedient(limits):
    return replace(
        limits,
        robots_txt="obey",
        deadline_s=30.0,  # a busy machine plays a hundred servers here, and few of them are slow
        robots_deadline_s=30.0,
        connections=256,
        connections_per_host=256,
        lookahead=256,
    )


def test_every_fault_ends_in_its_status(obedient, fetched):
    faults = {path: row[1:] for path, row in REPLIES.items() if row[1] != "timeout"}
    with misbehaving() as server, full_backlog() as unanswered:
        expected = {f"{server.base}/{path}": row for path, row in faults.items()}
        expected |= {url: (status, None) for url, status in URLS.items()}
        expected[unanswered] = ("connect", None)
        rows = fetched(list(expected), obedient)
        asked = [target.decode() for target in server.targets]
    found = {
        url: (row["status"], row["attempts"] if expected[url][1] is not None else None)
        for url, row in rows.items()
    }
    assert {url: pair for url, pair in found.items() if pair != expected[url]} == {}
    assert found.keys() == expected.keys()
    assert [path for path in asked if "disallowed" in path] == []
    assert {row["status"] for row in rows.values() if row["bytes"] is not None} == {"ok"}


def test_what_is_too_slow_ends_at_its_deadline(obedient, fetched):
    slow = [path for path, row in REPLIES.items() if row[1] == "timeout"]
    with misbehaving() as server:
        started = time.monotonic()
        rows = fetched([f"{server.base}/{path}" for path in slow], replace(obedient, deadline_s=1.0))
        took_s = time.monotonic() - started
    assert {(row["status"], row["attempts"]) for row in rows.values()} == {("timeout", 1)}
    assert len(rows) == len(slow)
    assert took_s < HELD_OUT_S / 2


def test_a_fault_is_tried_again_just_where_its_cause_may_pass():
    retried = {status for _, status, attempts in REPLIES.values() if attempts == 2 and status != "ok"}
    passing = {str(status) for status in PASSING_FAILURES}
    assert retried < passing
    # The rest of them wait for another run: the deadline is used up, or the host is left alone.
    once = {status for _, status, attempts in REPLIES.values() if attempts < 2}
    assert once & passing == {str(FetchStatus.TIMEOUT)}


def test_the_same_fault_many_times_over_is_as_many_rows(obedient, fetched):
    with misbehaving() as server:
        urls = [f"{server.base}/closed-within-the-body?{number}" for number in range(200)]
        rows = fetched(urls, obedient)
    assert {row["status"] for row in rows.values()} == {"incomplete"}


@pytest.mark.parametrize(("path", "target"), SPELLINGS.items())
def test_odd_spellings_of_a_path_are_asked_for_as_browsers_do(limits, path, target, fetched):
    with misbehaving() as server:
        url = f"{server.base}/{path}" if not path.startswith(" ") else f"  {server.base}/{path.strip()}  "
        assert fetched([url], limits)[url]["status"] == "gone"
    assert server.targets == [target]


TLS_FAULTS = {
    "self-signed": ("/CN=127.0.0.1", "IP:127.0.0.1", 30),
    "for-another-name": ("/CN=other.example", "DNS:other.example", 30),
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_a_certificate_that_does_not_vouch_for_the_host_ends_as_tls_once(limits, tmp_path, fault, fetched):
    subject, names, days = TLS_FAULTS[fault]
    options = f"-nodes -keyout key.pem -out certificate.pem -subj {subject} -addext subjectAltName={names}"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", str(days), *options.split()],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with misbehaving() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.base.replace("http:", "https:") + "/plain"
        (row,) = fetched([url], limits).values()
    assert (row["status"], row["attempts"]) == ("tls", 1)
    assert server.targets == []


def test_tls_with_a_server_that_speaks_none_ends_as_tls(limits, fetched):
    with misbehaving() as server:
        url = server.base.replace("http:", "https:") + "/plain"
        (row,) = fetched([url], limits).values()
    assert row["status"] == "tls"
