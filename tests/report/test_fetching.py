"""The report's shares are of the right rows, by cause, host, top-level domain and day."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F
from rich.console import Console
from uids import uid_of

from recap_spark.report import fetching
from recap_spark.stages.fetch.urls import host, top_level_domain

pytestmark = pytest.mark.spark

MAY, JUNE = (datetime(2026, month, 1, 12, tzinfo=UTC) for month in (5, 6))
# url, status, whether the bytes are those promised, last attempt
ENDS = [
    ("http://a.com/1", "ok", True, MAY),
    ("http://a.com/2", "ok", None, MAY),
    ("http://a.com/3", "hash_mismatch", False, MAY),
    ("http://a.com/4", "robots", None, MAY),
    ("https://A.com:8443/5", "timeout", None, JUNE),
    ("http://b.co.uk/1", "gone", None, JUNE),
    ("http://b.co.uk/2", "placeholder", False, JUNE),
    ("http://127.0.0.1/x", "private_address", None, JUNE),
]


@pytest.fixture(scope="module")
def reported(new_lake, fill):
    samples = [{"uid": uid_of(url), "url": url} for url, *_ in ENDS]
    images = [
        {"uid": uid_of(url), "status": status, "sha256_matches": matches, "fetched_at": moment}
        for url, status, matches, moment in ENDS
    ]
    return fill(new_lake(), samples=samples, images=images)


def tallied(lake):
    return fetching.tally(lake.read(fetching.IMAGES), lake.read(fetching.SAMPLES))


def shares(frame) -> dict[str, tuple]:
    found = {}
    for row in frame.collect():
        success, rot, mismatch = (None if share is None else round(share, 3) for share in row[-3:])
        found[str(row[0])] = (row["rows"], success, rot, mismatch)
    return found


def test_shares_are_of_all_of_the_tried_and_of_the_compared_rows(reported):
    everything = fetching.outcomes(tallied(reported)).first()
    assert everything["rows"] == 8
    assert everything["success"] == 2 / 8
    assert everything["link_rot"] == 2 / 6  # robots and the private address were never asked
    assert everything["hash_mismatch"] == 2 / 3


def test_hosts_domains_and_days_have_their_own_shares_the_largest_first(reported):
    frame = tallied(reported)
    by_host = shares(fetching.by_host(frame, most=2))
    assert list(by_host) == ["a.com", "b.co.uk"]
    assert by_host["a.com"] == (5, 0.4, 0.0, 0.5)
    assert by_host["b.co.uk"] == (2, 0.0, 1.0, 1.0)
    assert shares(fetching.by_top_level_domain(frame, most=9)) == {
        "com": (5, 0.4, 0.0, 0.5),
        "uk": (2, 0.0, 1.0, 1.0),
        "": (1, 0.0, None, None),
    }
    assert {day: rows for day, (rows, *_) in shares(fetching.by_day(frame)).items()} == {
        "2026-05-01": 4,
        "2026-06-01": 4,
    }


def test_causes_say_which_of_them_may_pass(reported):
    causes = {row["status"]: row for row in fetching.by_cause(tallied(reported)).collect()}
    assert causes["ok"]["rows"] == 2
    assert causes["gone"]["share"] == 1 / 8
    assert {status for status, row in causes.items() if row["may_pass"]} == {"timeout"}


def test_the_report_shows_every_table(reported, capsys):
    fetching.show_fetching(reported, hosts=5, console=Console(width=120))
    said = capsys.readouterr().out
    for words in ("How fetching ended", "private_address", "b.co.uk", "2026-06-01", "link rot", "33.3%"):
        assert words in said


HOSTS = {
    "http://Example.COM/a.jpg": ("example.com", "com"),
    "https://user:pass@sub.example.org:8080?x#y": ("sub.example.org", "org"),
    "http://example.com./a b.jpg": ("example.com", "com"),
    "http://snake_case.example.net/": ("snake_case.example.net", "net"),
    "http://[2001:db8::1]:80/a": ("[2001:db8::1]", ""),
    "http://192.0.2.7/a": ("192.0.2.7", ""),
    "example.com/a.jpg": ("example.com", "com"),
    "//cdn.example.com/a.jpg": ("cdn.example.com", "com"),
    "http://bücher.example/ü": ("bücher.example", "example"),
    "data:image/png;base64,AAAA": ("", ""),
    "nonsense": ("", ""),
}


def test_hosts_are_read_from_urls_as_the_web_writes_them(spark):
    named = host(F.col("url"))
    urls = spark.createDataFrame([(url,) for url in HOSTS], "url string")
    found = urls.select("url", named.alias("host"), top_level_domain(named).alias("domain")).collect()
    assert {row["url"]: (row["host"], row["domain"]) for row in found} == HOSTS
