"""Settings of conf or of a running session that are known to do harm"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from recap_spark.machine.doctor.findings import Finding, Verdict
from recap_spark.settings.schema import Settings

_UNCONTACTABLE = "example.org"


def dangerous_settings(settings: Settings, running: Mapping[str, str]) -> Iterator[Finding]:
    """Spark settings, of conf or of the running session, known to lose work, to break CUDA or to repeat side
    effects.
    """
    conf = {key: value.lower() for key, value in (settings.session.conf | dict(running)).items()}
    on_gpus = "gpu" in {settings.caption.device, settings.score.device}
    dangers = {
        "spark.speculation": (
            conf.get("spark.speculation") == "true",
            "true: a second copy of a task fetches and captions everything twice; set it to false",
        ),
        "spark.executor.pyspark.memory": (
            on_gpus and "spark.executor.pyspark.memory" in conf,
            "set: it limits address space, which CUDA reserves freely; set memoryOverhead instead",
        ),
        "spark.dynamicAllocation.enabled": (
            on_gpus and conf.get("spark.dynamicAllocation.enabled") == "true",
            "true: executors are given back between GPU stages and their work is lost; set it to false",
        ),
        "spark.python.worker.reuse": (
            conf.get("spark.python.worker.reuse") == "false",
            "false: every task loads the model again; leave it true",
        ),
        "spark.task.maxFailures": (
            conf.get("spark.task.maxFailures") == "1",
            "1: one lost worker fails the job; leave it at 4 or more",
        ),
    }
    for name, (is_danger, advice) in dangers.items():
        if is_danger:
            yield Finding(name, Verdict.WARNING, advice)
    if _UNCONTACTABLE in settings.fetch.limits.contact_url:
        yield Finding(
            "fetch.limits.contact_url",
            Verdict.WARNING,
            "the example's: put a page there that says who you are",
        )
    if re.fullmatch(r"local(\[[^,]*\])?", settings.session.master or ""):
        yield Finding("session.master", Verdict.WARNING, "local[n] never retries a task; write local[n,4]")
