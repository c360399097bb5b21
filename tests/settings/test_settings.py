"""A wrong key is an error that says which file and which path; secrets stay out of what a run records."""

import shutil
from pathlib import Path

import pytest
import yaml
from repository import CONF

from recap_spark.errors import SettingsError
from recap_spark.settings.loading import flat, load
from recap_spark.tracking import public_params

# All but dtype and max_new_tokens.
CAPTIONER = (
    "model: m\nrevision: null\nparts: null\ntemplate: null\nprompt: p\nengine: slots\nfloat8_linears: false\n"
)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of conf/ to change."""
    return Path(shutil.copytree(CONF, tmp_path / "conf"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def complaint(*paths: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(*paths)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "overlays", [[], ["laptop.yml"], ["laptop.yml", "demo.yml"], ["cluster.yml"]], ids="+".join
)
def test_the_files_of_conf_load(overlays):
    settings = load(CONF / "base.yml", *(CONF / name for name in overlays))
    wanted = "miniature" if "laptop.yml" in overlays else "llava_llama3_8b"
    assert settings.caption.captioner.name == wanted


def test_every_captioner_scorer_and_view_of_conf_loads(conf):
    for section, key, folder in (
        ("caption", "captioner", "captioners"),
        ("score", "scorer", "scorers"),
        ("export", "view", "views"),
    ):
        for file in sorted((conf / folder).glob("*.yml")):
            mine = write(conf / "mine.yml", f"{section}: {{{key}: {file.stem}}}")
            settings = load(conf / "base.yml", mine)
            assert getattr(getattr(settings, section), key).name == file.stem


def test_later_files_win_leaf_by_leaf(conf):
    mine = write(conf / "mine.yml", "fetch: {work: {units: 9}}")
    settings = load(conf / "base.yml", conf / "laptop.yml", mine)
    assert settings.fetch.work.model_dump() == {"units": 9, "in_flight": 2, "tasks_per_unit": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fetch: {work: {unit: 8}}", "fetch.work.unit: nobody reads this key: did you mean units?"),
        (
            "fetch: {limits: {deadline: 8}}",
            "fetch.limits.deadline: nobody reads this key: did you mean deadline_s?",
        ),
        ("fetsh: {units: 8}", "fetsh: nobody reads this key: did you mean fetch?"),
        ("export: {zzz: 8}", "export.zzz: nobody reads this key"),
        ("export: {largest_pixels: 8}", "export.largest_pixels: nobody reads this key"),
        (
            'fetch: {work: {units: "8"}}',
            "fetch.work.units: want a whole number, found '8'",
        ),
        (
            "fetch: {work: {units: 0}}",
            "fetch.work.units: want at least 1, found 0",
        ),
        ("fetch: {work: null}", "fetch.work: want a section of keys, found nothing (null)"),
        ("fetch: {limits: {ports: 80}}", "fetch.limits.ports: want a list, found 80"),
        ("caption: gpu", "caption: want a section of keys, found 'gpu'"),
        ("caption: {device: tpu}", "caption.device: want 'cpu' or 'gpu', found 'tpu'"),
        (
            "lake: {namespace: a.b.c}",
            r"lake.namespace: want text like ^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$, found 'a.b.c'",
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_path_and_the_file_that_has_it(conf, text, said):
    mine = write(conf / "mine.yml", text)
    assert complaint(conf / "base.yml", conf / "cluster.yml", mine) == [f"{mine}: {said}"]


def test_a_key_that_no_file_sets_is_named_with_the_files_that_set_its_neighbours(conf):
    base = yaml.safe_load((conf / "base.yml").read_text())
    del base["export"]["jpeg_quality"], base["fetch"]["limits"]["deadline_s"]
    write(conf / "base.yml", yaml.safe_dump(base))
    assert complaint(conf / "base.yml", conf / "cluster.yml") == [
        f"{conf / 'base.yml'}: fetch.limits.deadline_s: not set in any file",
        f"{conf / 'base.yml'}: export.jpeg_quality: not set in any file",
    ]


def test_a_file_of_one_s_own_without_the_base_is_told_so_in_one_line(conf):
    mine = write(conf / "mine.yml", "lake: {root: lake, namespace: null}")
    (said,) = complaint(mine)
    assert said.startswith(
        f"{mine}: want a first file that has every key, as conf/base.yml has, found nothing of "
    )
    assert "calibrate, caption" in said
    assert "lake" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{CAPTIONER}dtype: float32", "max_new_tokens: not set in any file"),
        (
            f"{CAPTIONER}dtype: float32\nmax_new_tokens: 9\nbeams: 4",
            "beams: nobody reads this key",
        ),
        (
            f"{CAPTIONER}dtype: float32\nmax_new_tokens: many",
            "max_new_tokens: want a whole number, found 'many'",
        ),
        (
            f"{CAPTIONER.replace('false', '1')}dtype: float32\nmax_new_tokens: 9",
            "float8_linears: want true or false, found 1",
        ),
    ],
)
def test_a_wrong_key_of_a_captioner_is_named_with_the_captioners_own_file(conf, text, said):
    file = write(conf / "captioners" / "other.yml", text)
    mine = write(conf / "mine.yml", "caption: {captioner: other}")
    assert complaint(conf / "base.yml", mine) == [f"{file}: caption.captioner.{said}"]


def test_float8_is_refused_for_an_engine_without_it(conf):
    text = CAPTIONER.replace("false", "true").replace("slots", "generate")
    file = write(conf / "captioners" / "other.yml", f"{text}dtype: float32\nmax_new_tokens: 9")
    mine = write(conf / "mine.yml", "caption: {captioner: other}")
    (said,) = complaint(conf / "base.yml", mine)
    assert said.startswith(f"{file}: caption.captioner: ")
    assert said.endswith("float8_linears: want engine slots for it, found generate")


def test_a_wrong_key_of_a_template_is_named_with_the_templates_own_file(conf):
    file = write(conf / "captioners" / "templates" / "mine.yml", "version: one\ntext: t")
    mine = write(conf / "mine.yml", "calibrate: {templates: [v1, mine]}")
    said = "mine.version: want a whole number, found 'one'"
    assert complaint(conf / "base.yml", mine) == [f"{file}: calibrate.templates.{said}"]
    other = write(conf / "captioners" / "other.yml", CAPTIONER + "dtype: float32\nmax_new_tokens: 9")
    write(other, other.read_text().replace("template: null", "template: mine"))
    named = write(conf / "named.yml", "caption: {captioner: other}")
    assert complaint(conf / "base.yml", named) == [
        f"{file}: caption.captioner.template.{said.removeprefix('mine.')}"
    ]


def test_later_lists_of_templates_replace_earlier_ones(conf):
    mine = write(conf / "mine.yml", "calibrate: {templates: [plain, v1]}")
    assert list(load(conf / "base.yml", mine).calibrate.templates) == ["plain", "v1"]


def test_a_misspelt_key_is_told_the_one_that_is_missed_for_it(conf):
    text = CAPTIONER.replace("engine", "engin") + "dtype: float32\nmax_new_token: 9"
    file = write(conf / "captioners" / "other.yml", text)
    mine = write(conf / "mine.yml", "caption: {captioner: other}")
    assert complaint(conf / "base.yml", mine) == [
        f"{file}: caption.captioner.max_new_tokens: not set in any file",
        f"{file}: caption.captioner.engine: not set in any file",
        f"{file}: caption.captioner.engin: nobody reads this key: did you mean engine?",
        f"{file}: caption.captioner.max_new_token: nobody reads this key: did you mean max_new_tokens?",
    ]


def test_all_wrong_keys_are_named_at_once(conf):
    mine = write(conf / "mine.yml", "caption: {batch_size: 0, devise: gpu}\nscore: {batch_size: 1.5}")
    assert len(complaint(conf / "base.yml", mine)) == 3


def test_a_captioner_without_a_file_lists_those_that_have_one(conf):
    mine = write(conf / "mine.yml", "caption: {captioner: llava}")
    (said,) = complaint(conf / "base.yml", mine)
    assert said.startswith(f"{mine}: caption.captioner: want one of ")
    assert "llava_hqedit, llava_llama3_8b, miniature, " in said
    assert said.endswith("found 'llava'")


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "not YAML"), ("- a", "want keys and values, found a list"), (None, "found none")],
)
def test_a_file_that_holds_no_settings_is_named(conf, text, said):
    mine = conf / "mine.yml"
    if text:
        write(mine, text)
    lines = complaint(conf / "base.yml", mine)
    assert lines[0].startswith(f"{mine}: ")
    assert said in lines[0]


def test_a_date_in_yaml_is_read_as_the_words_that_were_written(conf):
    mine = write(conf / "mine.yml", "tracking: {experiment: 2026-01-31}")
    assert load(conf / "base.yml", mine).tracking.experiment == "2026-01-31"


def test_flat_holds_every_leaf(conf):
    settings = load(conf / "base.yml", conf / "cluster.yml")
    held = flat(settings)
    assert held["fetch.work.units"] == "4096"
    assert held["fetch.limits.ports"] == "[80, 443, 8080, 8443]"
    assert held["session.conf.spark.executor.cores"] == "8"
    assert held["caption.captioner.max_new_tokens"] == "128"
    assert held["lake.namespace"] == "None"
    limits = set(yaml.safe_load((conf / "base.yml").read_text())["fetch"]["limits"])
    assert {key.removeprefix("fetch.limits.") for key in held if key.startswith("fetch.limits.")} == limits


def test_a_run_records_no_secret_and_all_the_rest(conf):
    mine = write(
        conf / "mine.yml",
        """
session:
  conf:
    spark.hadoop.fs.s3a.access.key: canary
    spark.hadoop.fs.s3a.secret.key: canary
    spark.hadoop.fs.s3a.session.token: canary
    spark.hadoop.fs.azure.account.key.lake.dfs.core.windows.net: canary
    spark.hadoop.javax.jdo.option.ConnectionPassword: canary
    spark.hadoop.fs.azure.sas.fixed.token.lake: canary
    spark.hadoop.fs.azure.sas.container.lake: canary
ingest:
  source: s3://lake/metadata?X-Amz-Signature=canary
tracking:
  uri: https://user:canary@mlflow.example.org/api
""",
    )
    settings = load(conf / "base.yml", mine)
    recorded = public_params(settings)
    assert "canary" not in str(recorded)
    unrecorded = flat(settings).keys() - recorded.keys()
    assert all(key.startswith("session.conf.spark.hadoop.") for key in unrecorded)
    assert len(unrecorded) == 7
    assert recorded["caption.captioner.max_new_tokens"] == "128"
    assert recorded["tracking.uri"] == "https://…@mlflow.example.org/api"


def test_a_mistyped_secret_is_not_repeated_in_the_error(conf):
    mine = write(conf / "mine.yml", "session: {conf: {spark.hadoop.fs.s3a.secret.key: 12345678}}")
    with pytest.raises(SettingsError, match=r"secret\.key: .*, found a secret") as raised:
        load(conf / "base.yml", mine)
    assert "12345678" not in str(raised.value)
