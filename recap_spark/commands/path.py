"""Commands of the path: each stage, all of them, and the demo"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, opened

_PANEL = "The path"
_STAGES = {
    "ingest": "metadata → samples",
    "import-images": "shards of pictures you have → images: img2dataset's, DataComp's resharder's, export's",
    "fetch": "samples → images",
    "caption": "images → captions",
    "score": "images + samples + captions → scores",
    "mix": "samples + captions → the view recap_datacomp and the function mixed_captions",
    "export": "a view → files to train on; of several epochs, the pictures once and captions for each",
}
_EXAMPLES = {"export": "--p 0.6 --seed 3 --epoch 0 --epoch 1"}
_AS_IT_IS = "--conf conf/base.yml --conf mine.yml"


def add_to(app: typer.Typer) -> None:
    """In the order of the path."""
    with_options: dict[str, Callable[..., None]] = {"fetch": _fetch, "export": _export}
    for name, arrow in _STAGES.items():
        shown = f"{arrow}\n\nExample: recap-spark {name} {_EXAMPLES.get(name, _AS_IT_IS)}"
        command = with_options.get(name) or stage_command(name)
        app.command(name, help=shown, rich_help_panel=_PANEL)(command)
    app.command("all", rich_help_panel=_PANEL)(_all)
    app.command("demo", rich_help_panel=_PANEL)(_demo)


def stage_command(name: str) -> Callable[..., None]:
    """A command that runs the stage of this name."""

    def command(conf: Conf = LAPTOP, changes: Changes = None) -> None:
        with opened(conf, changes) as (lake, settings, progress):
            from recap_spark.pipeline import named, run_stage

            run_stage(named(name), lake, settings, progress)

    return command


def _fetch(
    conf: Conf = LAPTOP,
    changes: Changes = None,
    probe: Annotated[
        int | None,
        typer.Option(min=1, help="Fetch a sample of this many rows, keep nothing, estimate the whole table."),
    ] = None,
) -> None:
    if probe is None:
        stage_command("fetch")(conf, changes)
        return
    with opened(conf, changes) as (lake, settings, _):
        from rich.console import Console

        from recap_spark.report.probe import show_probe
        from recap_spark.stages.fetch.probe import probe_urls

        show_probe(probe_urls(lake, settings, rows=probe), console=Console())


def _export(
    conf: Conf = LAPTOP,
    changes: Changes = None,
    p: Annotated[
        float | None,
        typer.Option("--p", min=0, max=1, help="Probability of the original caption, over the view's own."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draw, over the view's own.")] = None,
    epoch: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Epoch to draw captions for, over the view's own; may be repeated. The first one's captions "
            "stand beside the pictures.",
        ),
    ] = None,
) -> None:
    stage_command("export")(conf, [*(changes or ()), *view_changes(p=p, seed=seed, epochs=epoch)])


def view_changes(*, p: float | None, seed: int | None, epochs: Iterable[int] | None) -> list[str]:
    """What these options change of the view, each as `--set` takes it; None changes nothing."""
    written = {
        "p": None if p is None else _yaml_float(p),
        "seed": seed,
        "epoch": list(epochs) if epochs else None,
    }
    return [f"export.view.{name}={value}" for name, value in written.items() if value is not None]


def _yaml_float(value: float) -> str:
    """As YAML takes it for a number: 1e-05, as Python writes it, would be text."""
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")


def _all(conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """Run every stage in order; work that is done already is not repeated.

    Example: recap-spark all --conf conf/base.yml --conf mine.yml
    """
    with opened(conf, changes) as (lake, settings, progress):
        from recap_spark.pipeline import run_all

        run_all(lake, settings, progress)


def _demo(conf: Conf = [*LAPTOP, Path("conf/demo.yml")], changes: Changes = None) -> None:  # noqa: B006  typer reads it and changes nothing
    """Run the whole path on the bundled miniature web, and show a summary at the end.

    Example: recap-spark demo --set demo.rows=300
    """
    with opened(conf, changes) as (lake, settings, progress):
        from recap_spark.demo import run_demo

        run_demo(lake, settings, progress)
