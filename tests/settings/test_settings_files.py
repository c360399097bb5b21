"""A settings file may be based on others, and one that is no plain YAML is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from repository import CONF

from recap_spark.errors import SettingsError
from recap_spark.settings.loading import flat, load
from recap_spark.settings.schema import Settings

BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (name, name, *[name - 1] * 8)
    for name in b"bcdefgh"
)


def refused(folder: Path, written: bytes, *changes: str) -> str:
    mine = folder / "mine.yml"
    mine.write_bytes(written)
    with pytest.raises(SettingsError) as raised:
        load(CONF / "base.yml", mine, changes=changes)
    return str(raised.value).removeprefix(f"{mine}: ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            b"lake:\n  root: a\n  root: b",
            "line 3: not YAML: want every key once, found root in line 2",
        ),
        ("lake: {root: é}".encode("utf-16"), "line 1: want UTF-8, found the mark of UTF-16"),
        (b"# one\nlake: {root: caf\xe9}", "line 2: want UTF-8, found the byte 0xe9, which is none"),
        (b"lake:\n\troot: a", "line 2: not YAML: found character"),
        (b"lake:\n\x00", "line 2: not YAML: a control character"),
        (b"", "want keys and values, found an empty file"),
        (b"# nothing", "want keys and values, found an empty file"),
        (b"[1]", "want keys and values, found a list"),
        (BOMB, "want at most 50000 values with aliases followed"),
        (b"a: &a [*a]", "want no alias inside of what it stands for"),
        (b"[" * 5000, "want at most 50 levels"),
        (b"lake: {root: !!python/name:os.system x}", "want plain values, found the tag"),
        (b"on: {root: a}", "want a key that is text, found on: quote it"),
        (b"demo: {seed: " + b"9" * 5000 + b"}", "want a number of at most 40 digits"),
        (b'lake: {root: "\\ud800"}', "want Unicode text"),
        (b"a: 1\n" * 300_000, "want at most 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused_with_its_line(tmp_path, written, said):
    assert said in refused(tmp_path, written)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("fetch: {limits: {deadline_s: -3}}", "want more than 0, found -3"),
        ("fetch: {limits: {deadline_s: .nan}}", "want a finite number, found nan"),
        ("fetch: {limits: {deadline_s: .inf}}", "want a finite number, found inf"),
        ("fetch: {limits: {redirects: -1}}", "want at least 0, found -1"),
        ("fetch: {limits: {ports: [0]}}", "fetch.limits.ports.0: want at least 1, found 0"),
        (
            "fetch: {limits: {contact_url: ftp://a.test}}",
            "want an address that begins with http:// or https://",
        ),
        ("fetch: {limits: {contact_url: 'http://'}}", "want an address that begins with http:// or https://"),
        ('fetch: {limits: {contact_url: "http://a.test/\\r\\nX: y"}}', "want an address without blanks"),
        ("session: {start_timeout_s: -1}", "want at least 0, found -1"),
        ("tracking: {uri: htps://mlflow.test}", "want a path, or a URI of http, https"),
        ("lake: {root: ~other/lake}", "want ~/ for your own home folder"),
        ("lake: {root: 's4://bucket/lake'}", "want a path, or a URL of s3, s3a"),
        ("tracking: {uri: 'mlflow.test:5000'}", "such as http://mlflow.test:5000"),
        ("lake: {root: 'file://host/lake'}", "want file:/// and a path"),
        (f"export: {{view: {{epoch: {list(range(129))}}}}}", "want at most 128 epochs"),
        ("tracking: {uri: 'http://'}", "and names a host"),
        ("tracking: {uri: 'http://mlflow.test:99999'}", "and names a host, and a port"),
        ("lake: {root: '{lake}/x'}", "lake.root: want the place that {lake} stands for, found '{lake}/x'"),
        (
            "lake: {root: 's3://bucket/lake'}\nsession: {log: '{lake}/log'}",
            "session.log: want a path on this machine, found 's3://bucket/lake/log'",
        ),
        ("score: {scorer: {preference_scale: .inf}}", "want a finite number"),
    ],
)
def test_a_value_out_of_its_range_is_refused(tmp_path, written, said):
    assert said in refused(tmp_path, written.encode())


def test_a_home_folder_is_meant_as_a_shell_means_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/us")
    assert load(CONF / "base.yml", changes=["lake.root=~/lake"]).lake.root == "/home/us/lake"


@pytest.mark.parametrize("url", ["file:/data/my%20lake", "file:///data/my%20lake"])
def test_a_file_url_is_the_path_that_it_names(url):
    assert load(CONF / "base.yml", changes=[f"lake.root={url}"]).lake.root == "/data/my lake"


def test_what_belongs_to_a_lake_moves_with_its_root():
    laptop = (CONF / "base.yml", CONF / "laptop.yml")
    here, moved = load(*laptop), load(*laptop, changes=["lake.root=/data/other/"])
    places = ("session.metastore", "session.log", "ingest.source", "export.folder", "demo.folder")
    here, moved = flat(here), flat(moved)
    assert {place: here[place] for place in places} == {
        "session.metastore": "lake/metastore",
        "session.log": "lake/spark.log",
        "ingest.source": "lake/miniature/metadata",
        "export.folder": "lake/exports",
        "demo.folder": "lake/miniature",
    }
    assert [moved[place] for place in places] == [
        here[place].replace("lake", "/data/other") for place in places
    ]
    assert [path for path, value in moved.items() if value.startswith("lake")] == []


@pytest.mark.parametrize(
    ("root", "folder", "place"),
    [
        ("/", "{lake}/x", "/x"),
        ("/", "{lake}", "/"),
        ("my lake", "{lake}", "my lake"),
        ("s3://bucket/lake//", "{lake}/x", "s3://bucket/lake/x"),
        ("/data", "{lake}x", "{lake}x"),
    ],
)
def test_the_command_line_knows_the_lakes_place_too(root, folder, place):
    changes = [f"lake.root={root}", f"export.folder={folder}"]
    assert load(CONF / "base.yml", changes=changes).export.folder == place


def test_the_faults_of_all_files_are_said_at_once(tmp_path):
    bad, absent = tmp_path / "bad.yml", tmp_path / "absent.yml"
    bad.write_text("a: [")
    with pytest.raises(SettingsError) as raised:
        load(CONF / "base.yml", bad, absent)
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == [str(bad), str(absent)]
    said = refused(tmp_path, b"caption: {captioner: llava, slots: 0}\nscore: {scorer: clip}")
    assert len(said.splitlines()) == 3


def test_one_file_is_enough_where_it_says_what_it_is_based_on(tmp_path):
    (tmp_path / "ours.yml").write_text("based_on: [base, laptop]\nfetch: {work: {units: 8}}")
    mine = tmp_path / "mine.yml"
    mine.write_text("based_on: ours.yml\nfetch: {work: {in_flight: 1}}")
    assert load(mine).fetch.work.model_dump() == {"units": 8, "in_flight": 1, "tasks_per_unit": 1}
    assert load(CONF / "base.yml", CONF / "laptop.yml", mine).fetch.work.units == 8


@pytest.mark.parametrize(
    ("bases", "said"),
    [
        ("mine.yml", "want no file that is based on itself, found"),
        ("./mine.yml", "want no file that is based on itself, found"),
        ("laptob", "want one of base, cluster, "),
        ("other.yml", "want the path of a file, from this one's folder, found 'other.yml'"),
        ("{base: 1}", "want a list of names or paths"),
        ("[1]", "want a list of names or paths"),
    ],
)
def test_a_base_that_is_none_is_refused(tmp_path, bases, said):
    assert said in refused(tmp_path, f"based_on: {bases}".encode())


def test_the_command_line_is_over_all_files_and_over_the_files_they_name():
    settings = load(
        CONF / "base.yml",
        changes=[
            "fetch.limits.deadline_s=5",
            "caption.captioner.max_new_tokens=20",
            "caption.captioner=miniature",
            "session.conf.spark.sql.shuffle.partitions=8",
            "score.scorer.fit=pad",
            "export.view.p=0.5",
        ],
    )
    assert (settings.score.scorer.name, settings.score.scorer.fit) == ("clip_l14", "pad")
    assert (settings.export.view.name, settings.export.view.p) == ("clip", 0.5)
    assert settings.fetch.limits.deadline_s == 5
    assert (settings.caption.captioner.name, settings.caption.captioner.max_new_tokens) == ("miniature", 20)
    assert settings.session.conf["spark.sql.shuffle.partitions"] == "8"


def test_the_command_line_reaches_into_each_file_that_another_names():
    settings = load(
        CONF / "base.yml",
        changes=[
            "caption.captioner=llava_hqedit",
            "caption.captioner.template.version=9",
            "calibrate.templates.plain.version=8",
            "score.scorer.preference_scale=7",
            "export.view.seed=6",
        ],
    )
    template = settings.caption.captioner.template
    assert (template.name, template.version) == ("llava_llama_3", 9)
    assert settings.calibrate.templates["plain"].version == 8
    assert (settings.score.scorer.name, settings.score.scorer.preference_scale) == ("clip_l14", 7)
    assert (settings.export.view.name, settings.export.view.seed) == ("clip", 6)


def test_a_path_that_is_misspelt_is_told_its_neighbour(tmp_path):
    (tmp_path / "mine.yml").touch()
    with pytest.raises(SettingsError, match=r"did you mean .*mine\.yml\?"):
        load(CONF / "base.yml", tmp_path / "mnie.yml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.dictionaries(st.sampled_from([*Settings.model_fields, "based_on", "caption.slots"]), VALUES)
WRITTEN = st.binary(max_size=200) | st.text(alphabet="&*a!<>{}[]:-?|'\"\\\n\t ,#%@0_.", max_size=60).map(
    str.encode
)


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=WRITTEN | SECTIONS.map(lambda values: yaml.safe_dump(values, allow_unicode=True).encode()))
def test_whatever_a_file_holds_it_gives_settings_or_is_refused(tmp_path, written):
    mine = tmp_path / "mine.yml"
    mine.write_bytes(written)
    try:
        settings = load(CONF / "base.yml", mine)
    except SettingsError as error:
        assert str(mine) in str(error)  # noqa: PT017  either end is right
    else:
        assert isinstance(settings, Settings)
