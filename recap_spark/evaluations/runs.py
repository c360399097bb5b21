"""a benchmark's files + the captioner that conf names → a table of measures, kept by MLflow"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from recap_spark.evaluations import mmmu, mmvet
from recap_spark.evaluations.answers import Question, answers
from recap_spark.miniature.quality import measure_captions
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.settings.endpoint import ChatSettings, plain_base_url
from recap_spark.settings.loading import read
from recap_spark.settings.schema import Settings
from recap_spark.settings.section import Section, read_strictly
from recap_spark.settings.values import Count
from recap_spark.tracking import public_params, tracking_uri
from recap_spark.workers.captioning.engines import AnyCaptionerSpec
from recap_spark.workers.chat.client import ChatClient


class MmmuSettings(Section):
    """How a question is put."""

    form: str


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(ChatSettings):
    """Who judges, and how it is asked."""

    base_url: Annotated[str, AfterValidator(plain_base_url)]
    model: str


read_strictly(JudgeSettings)


class MmvetSettings(Section):
    """The judge, and what it goes by."""

    judge: JudgeSettings
    rubric: str


class MiniatureSettings(Section):
    """How many scenes."""

    scenes: Count


class EvaluationSettings(Section):
    """conf/evaluations.yml."""

    mmmu: MmmuSettings
    mmvet: MmvetSettings
    miniature: MiniatureSettings


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One line of a result."""

    name: str
    value: float
    of: int  # questions, tasks or claims
    remark: str


def read_settings(path: Path) -> EvaluationSettings:
    """Raises SettingsError naming the file and every key that is wrong."""
    return read(EvaluationSettings, path, named_files={})


def evaluate_mmmu(
    spec: AnyCaptionerSpec, folder: Path, *, settings: EvaluationSettings, device: str
) -> list[Measure]:
    """Percent of the multiple-choice questions of MMMU's validation split answered rightly, by subject."""
    choices = mmmu.read_choices(folder)
    questions = [mmmu.as_question(choice, form=settings.mmmu.form) for choice in choices]
    marks = mmmu.mark(choices, list(answers(spec, questions, device=device)))
    return [
        Measure(
            name=name,
            value=100 * each.share,
            of=each.questions,
            remark=f"{each.guessed} guessed, {each.half_seen} with more pictures than the one shown",
        )
        for name, each in marks.items()
    ]


def evaluate_mmvet(
    spec: AnyCaptionerSpec, folder: Path, *, settings: EvaluationSettings, device: str
) -> list[Measure]:
    """MM-Vet's scores, from 0 to 100, by capability."""
    tasks = mmvet.read_tasks(folder)
    said = list(answers(spec, [mmvet.as_question(task) for task in tasks], device=device))
    judge = settings.mmvet.judge
    client = ChatClient(judge, model=judge.model, where=lambda: judge.base_url)
    try:
        scores = mmvet.judged(client, tasks, said, rubric=settings.mmvet.rubric)
    finally:
        client.close()
    return [
        Measure(name=name, value=grade.score, of=grade.tasks, remark=f"{grade.unscored} unscored")
        for name, grade in mmvet.grades(tasks, scores).items()
    ]


def evaluate_miniature(spec: AnyCaptionerSpec, *, settings: EvaluationSettings, device: str) -> list[Measure]:
    """Percent of true statements, and of objects mentioned, over held-out scenes whose truth is known."""
    scenes = [draw_scene(number) for number in HELD_OUT[: settings.miniature.scenes]]
    questions = [
        Question(str(n), render_bytes(scene), spec.captioner.prompt) for n, scene in enumerate(scenes)
    ]
    quality = measure_captions(list(answers(spec, questions, device=device)), scenes=scenes)
    counted = ((name, quality.true[name], quality.stated[name]) for name in sorted(quality.stated))
    by_attribute = [
        Measure(name=f"true.{name}", value=100 * true / stated, of=stated, remark="")
        for name, true, stated in counted
    ]
    return [
        *by_attribute,
        Measure(name="true", value=100 * quality.share_true, of=quality.stated.total(), remark=""),
        Measure(name="mentioned", value=100 * quality.share_mentioned, of=quality.present, remark=""),
    ]


def record(
    measures: Sequence[Measure], *, benchmark: str, captioner: Mapping[str, str | None], settings: Settings
) -> None:
    """One MLflow run: what the captioner is, and each measure as `benchmark.name`."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(settings))
    mlflow.set_experiment(settings.tracking.experiment)
    with mlflow.start_run(run_name=f"evaluate {benchmark}", tags={"captioner": str(captioner["captioner"])}):
        mlflow.log_params(public_params(settings))
        mlflow.log_metrics({f"{benchmark}.{each.name}": each.value for each in measures})
        mlflow.log_metrics({f"{benchmark}.{each.name}.of": float(each.of) for each in measures})
