"""Is this machine, with these settings, fit to run the stages? Each check says what it found and what to
change.

Spark itself may be what is missing, so nothing here imports it before that is known.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.markup import escape

from recap_spark.errors import InputError, PlatformError
from recap_spark.machine.doctor.findings import Finding, Verdict
from recap_spark.machine.doctor.settings_checks import dangerous_settings
from recap_spark.machine.java import find_java
from recap_spark.settings.schema import Settings
from recap_spark.workers.shards.shards import storage_of

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}


def examine_machine(settings: Settings, console: Console) -> bool:
    """Print every finding; False where a check failed."""
    findings = []
    for finding in _findings(settings):
        said = escape(f"{finding.check}: {finding.found}")
        shown = f"[{_COLOURS[finding.verdict]}]{finding.verdict:>8}[/]  {said}"
        console.print(shown, highlight=False)
        findings.append(finding)
    return all(finding.verdict is not Verdict.FAILED for finding in findings)


def _findings(settings: Settings) -> Iterator[Finding]:
    has_spark = _installed("pyspark") is not None
    if not (has_spark and _is_remote(settings)):
        yield _java()
    yield from _libraries(settings)
    yield _write_access(settings.lake.root)
    if not has_spark:  # said already, among the libraries
        yield from dangerous_settings(settings, {})
        return
    from recap_spark.machine.doctor.session_checks import session_findings

    yield from session_findings(settings)


def _is_remote(settings: Settings) -> bool:
    """Whether the JVM is a server's, of Spark Connect: its Java is none of ours."""
    from recap_spark.lake.connect import is_named

    return is_named(settings.session.conf)


def _java() -> Finding:
    try:
        java = find_java()
    except PlatformError as error:
        return Finding("Java", Verdict.FAILED, str(error))
    return Finding("Java", Verdict.OK, f"{java.version} in {java.home}")


def _libraries(settings: Settings) -> Iterator[Finding]:
    yield _library("pyspark", least=4, below=None, extra="local")
    yield _library("pandas", least=2, below=3, extra=None)
    yield _library("pyarrow", least=18, below=None, extra=None)
    if settings.caption.device == "cpu" or settings.score.device == "cpu":
        # On GPUs it is the executors that need them, and a driver does without.
        for name, least in (("torch", 2), ("transformers", 5)):
            finding = _library(name, least=least, below=None, extra="caption")
            if _installed(name) is None:
                finding = Finding(name, Verdict.WARNING, f"{finding.found}; caption and score need it")
            yield finding


def _library(name: str, *, least: int, below: int | None, extra: str | None) -> Finding:
    wanted = f"want {least} or newer" + (f", below {below}" if below else "")
    found = _installed(name)
    if found is None:
        package = f"recap-spark[{extra}]" if extra else name
        return Finding(name, Verdict.FAILED, f'{wanted}, found none: pip install "{package}"')
    major = int(found.split(".")[0])
    fits = major >= least and (below is None or major < below)
    return Finding(name, Verdict.OK if fits else Verdict.FAILED, f"{found}, {wanted}")


def _installed(package: str) -> str | None:
    """Its version, None where it is not there: some platforms bring pyspark as a folder, of no package."""
    try:
        return version(package)
    except PackageNotFoundError:
        pass
    try:
        return str(import_module(package).__version__)
    except ImportError:
        return None


def _write_access(root: str) -> Finding:
    try:
        storage, path = storage_of(root)
        probe = f"{path}/.doctor-{uuid.uuid4().hex}"
        storage.create_dir(path, recursive=True)
        with storage.open_output_stream(probe) as file:
            file.write(b"recap_spark")
        storage.delete_file(probe)
    except (OSError, InputError) as error:
        return Finding("lake.root", Verdict.FAILED, f"want to write to {root}, found: {error}")
    return Finding("lake.root", Verdict.OK, f"{root} can be written to")
