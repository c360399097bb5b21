from __future__ import annotations

from dataclasses import replace

import pytest

from recap_spark.errors import SettingsError
from recap_spark.workers.fetching.failures import FetchError
from recap_spark.workers.fetching.optouts import with_opt_outs
from recap_spark.workers.fetching.urls import allowed_url

LINES = """
# Those who wrote to us.
example.org        # with its subdomains
*.museum.example
München.example.
192.0.2.7

http://photos.example/private/a.jpg
HTTP://Photos.Example:80/private/ü b.jpg#top
https://photos.example/private/c.jpg?size=1
"""


@pytest.fixture
def read(limits, tmp_path):
    def read_lines(lines):
        path = tmp_path / "opted_out.txt"
        path.write_text(lines, encoding="utf-8")
        return with_opt_outs(replace(limits, opted_out_file=str(path)))

    return read_lines


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.jpg",
        "https://cdn.Example.ORG./a.jpg",
        "http://museum.example/a.jpg",
        "http://a.b.museum.example/",
        "http://münchen.example/",
        "http://xn--mnchen-3ya.example/",
        "http://192.0.2.7/a.jpg",
        "http://photos.example/private/a.jpg",
        "http://photos.example:80/private/a.jpg#part",
        "http://photos.example/private/%C3%BC%20b.jpg",
        "http://photos.example/private/ü b.jpg",
        "https://photos.example:443/private/c.jpg?size=1",
        "http://127.0.0.1/private.jpg",
    ],
)
def test_every_spelling_of_what_the_file_and_the_settings_name_is_opted_out(read, url):
    with pytest.raises(FetchError, match="opt-out list"):
        allowed_url(url, limits=read(LINES))


@pytest.mark.parametrize(
    "url",
    [
        "http://notexample.org/a.jpg",
        "http://example.org.example/a.jpg",
        "http://photos.example/private/b.jpg",
        "https://photos.example/private/a.jpg",
        "https://photos.example/private/c.jpg?size=2",
    ],
)
def test_what_is_not_named_is_not_opted_out(read, url):
    allowed_url(url, limits=read(LINES))


@pytest.mark.parametrize(
    "line", ["two words", "ftp://example.org/", "http://", "a/b", "http://[::1", "ex!ample"]
)
def test_a_line_that_is_neither_domain_nor_url_is_named(read, line):
    with pytest.raises(SettingsError, match=r"opted_out\.txt:2: want "):
        read(f"example.org\n{line}\n")


def test_a_file_that_is_not_there_is_an_error(limits):
    with pytest.raises(SettingsError, match=r"opted_out_file: want .* No such file"):
        with_opt_outs(replace(limits, opted_out_file="/no/such/file"))


def test_without_a_file_the_settings_stand(limits):
    assert with_opt_outs(limits) == limits
