"""The doctor names what is wrong with a machine or with settings, and what to change."""

import pytest
from rich.console import Console

from recap_spark.errors import PlatformError
from recap_spark.machine.doctor.doctor import examine_machine
from recap_spark.machine.doctor.findings import Verdict
from recap_spark.machine.doctor.settings_checks import dangerous_settings
from recap_spark.machine.java import find_java


def changed(settings, *, conf=(), master="local[3,4]", device="cpu", contact_url="https://us.test/bot"):
    """The settings with another session, device or contact."""
    session = settings.session.model_copy(update={"conf": dict(conf), "master": master})
    caption = settings.caption.model_copy(update={"device": device})
    limits = type(settings.fetch.limits)(**vars(settings.fetch.limits) | {"contact_url": contact_url})
    fetch = settings.fetch.model_copy(update={"limits": limits})
    return settings.model_copy(update={"session": session, "caption": caption, "fetch": fetch})


@pytest.mark.parametrize(
    ("change", "named", "advice"),
    [
        ({"conf": {"spark.speculation": "true"}}, "spark.speculation", "set it to false"),
        ({"conf": {"spark.speculation": "TRUE"}}, "spark.speculation", "set it to false"),
        ({"conf": {"spark.python.worker.reuse": "false"}}, "spark.python.worker.reuse", "leave it true"),
        ({"conf": {"spark.task.maxFailures": "1"}}, "spark.task.maxFailures", "leave it at 4 or more"),
        (
            {"conf": {"spark.executor.pyspark.memory": "4g"}, "device": "gpu"},
            "spark.executor.pyspark.memory",
            "set memoryOverhead instead",
        ),
        (
            {"conf": {"spark.dynamicAllocation.enabled": "true"}, "device": "gpu"},
            "spark.dynamicAllocation.enabled",
            "set it to false",
        ),
        ({"contact_url": "https://example.org/x"}, "fetch.limits.contact_url", "says who you are"),
        ({"master": "local"}, "session.master", "write local[n,4]"),
        ({"master": "local[*]"}, "session.master", "write local[n,4]"),
        ({"master": "local[8]"}, "session.master", "write local[n,4]"),
    ],
)
def test_a_dangerous_setting_is_named_with_what_to_do(settings, change, named, advice):
    (finding,) = dangerous_settings(changed(settings, **change), {})
    assert (finding.check, finding.verdict) == (named, Verdict.WARNING)
    assert advice in finding.found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"master": None},
        {"master": "local[*,4]"},
        {"master": "spark://host:7077"},
        {"conf": {"spark.speculation": "false", "spark.task.maxFailures": "8"}},
        {"conf": {"spark.executor.pyspark.memory": "4g", "spark.dynamicAllocation.enabled": "true"}},
    ],
)
def test_settings_that_do_no_harm_are_not_warned_of(settings, change):
    assert list(dangerous_settings(changed(settings, **change), {})) == []


def test_what_the_running_session_says_counts_too(settings):
    (finding,) = dangerous_settings(changed(settings), {"spark.python.worker.reuse": "false"})
    assert finding.check == "spark.python.worker.reuse"


@pytest.fixture
def old_java(tmp_path, monkeypatch):
    """A PATH with nothing on it but a Java 8."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("""#!/bin/sh\necho 'openjdk version "1.8.0_392"' >&2\n""")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(java.parent))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return java


def test_a_java_that_is_too_old_is_named_with_what_to_install(old_java):
    with pytest.raises(PlatformError) as caught:
        find_java()
    said = str(caught.value)
    assert said.startswith(f"want Java 17 or newer, found {old_java} (8): install a Java 17 or newer")


def test_a_machine_without_java_is_told_so(old_java, monkeypatch):
    old_java.unlink()
    with pytest.raises(PlatformError, match="found none: install a Java 17"):
        find_java()


def test_the_doctor_says_which_java_it_found_and_that_the_machine_is_not_fit(settings, old_java, tmp_path):
    lake = settings.lake.model_copy(update={"root": str(tmp_path / "lake")})
    console = Console(record=True, width=1000, file=(tmp_path / "said").open("w"))
    assert not examine_machine(settings.model_copy(update={"lake": lake}), console)
    said = console.export_text().splitlines()
    (java,) = (line for line in said if "Java:" in line)
    assert java.split()[0] == "failed"
    assert f"found {old_java} (8)" in java
    assert any(line.split()[:2] == ["ok", "lake.root:"] for line in said)
    assert list((tmp_path / "lake").iterdir()) == []
