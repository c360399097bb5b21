"""The plan's figures are those that the same sums give by hand."""

from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from recap_spark.cli import app
from recap_spark.errors import SettingsError
from recap_spark.planner import Figures, plan, read_figures
from recap_spark.report.plan import print_plan, sources
from recap_spark.roofline import caption_work, images_per_second

FIGURES = Path(__file__).parents[1] / "conf" / "planner.yml"


def figures(**changed: float) -> Figures:
    """The committed figures with some values in the place of theirs: captioner__engine_share=1."""
    values = yaml.safe_load(FIGURES.read_text())
    for key, value in changed.items():
        section, _, name = key.partition("__")
        values[section][name]["value"] = value
    return Figures.model_validate(values)


def test_an_image_costs_what_its_phases_cost():
    work = caption_work(side=336, prompt_tokens=30, new_tokens=66)
    phases = {
        name: round(getattr(work, name) / 1e12, 3) for name in ("vision", "projector", "prefill", "decode")
    }
    assert phases == {"vision": 0.366, "projector": 0.024, "prefill": 8.556, "decode": 0.997}
    assert round(work.total / 1e12, 3) == 9.944
    assert round(caption_work(side=224, prompt_tokens=30, new_tokens=66).total / 1e12, 3) == 5.167


def test_the_decoder_s_weights_are_those_of_a_llama_of_8_billion():
    # A further token of the prompt goes once through the layers: 13.96e9, and attention to 607 keys.
    one_more = caption_work(side=336, prompt_tokens=31, new_tokens=1).prefill
    prefill = caption_work(side=336, prompt_tokens=30, new_tokens=1).prefill
    assert one_more - prefill == 2 * 6_979_321_856 + 4 * 32 * 4096 * 607


@pytest.mark.parametrize(
    ("tflops", "share", "images"), [(989, 1.0, 99.5), (788, 1.0, 79.2), (788, 0.6, 47.5)]
)
def test_a_card_s_rate_over_an_image_s_work_is_its_pace(tflops, share, images):
    work = caption_work(side=336, prompt_tokens=30, new_tokens=66)
    assert round(images_per_second(work, tflops=tflops, share=share), 1) == images


def test_at_the_limit_of_the_data_sheet_a_billion_captions_take_the_hours_of_the_limit():
    ideal = figures(fetch__success_share=1.0, captioner__matrix_share=1.0, captioner__engine_share=1.0)
    caption = plan(ideal, rows=1.3e9, gpu="h100", gpus=256, cores=1024)[1]
    assert round(caption.worker_hours) == 3631
    assert round(caption.hours, 2) == round(3631 / 256, 2)
    assert round(caption.usd, -2) == round(3631 * 3.0, -2)
    assert caption.formula.startswith(
        "989 TFLOP/s x 1 / 9.94 TFLOP = 99.5 images/s, x 1 = 99.5 a GPU, x 256 GPUs"
    )


def test_each_stage_counts_the_rows_that_reach_it():
    half = figures(fetch__success_share=0.5, storage__image_kb=100.0, storage__caption_kb=1.0)
    fetch, caption, score, export = plan(half, rows=2e9, gpu="h200", gpus=8, cores=100)
    assert [round(each.images) for each in (fetch, caption, score, export)] == [2e9, 1e9, 1e9, 1e9]
    # 84 images/s on each of 100 cores: 2e9 / 8400 / 3600 hours, at 0.04 USD a core's hour.
    assert round(fetch.hours, 2) == 66.14
    assert round(fetch.usd, 1) == round(66.1376 * 100 * 0.04, 1)
    assert (fetch.stored_tb, caption.stored_tb, export.stored_tb) == (100.0, 1.0, 101.0)


def test_more_gpus_save_hours_and_no_money():
    few, many = (plan(figures(), rows=1e9, gpu="h100", gpus=gpus, cores=8)[1] for gpus in (8, 64))
    assert few.hours == pytest.approx(8 * many.hours)
    assert few.usd == many.usd


def test_every_figure_says_where_it_comes_from():
    values = yaml.safe_load(FIGURES.read_text())
    assert len(sources(values)) == str(values).count("'label'")
    assert {label for _, label, _ in sources(values)} == {"published", "measured", "assumed"}


def test_the_printed_plan_shows_stages_formulas_and_sources():
    console = Console(record=True, width=120)
    known = figures()
    print_plan(plan(known, rows=1.3e9, gpu="h100", gpus=256, cores=1024), figures=known, console=console)
    text = console.export_text()
    for words in ("fetch", "caption", "score", "export", "TFLOP/s x 0.797", "assumed", "USD a month"):
        assert words in text


def test_the_command_names_the_cards_it_knows():
    command = ["plan", "--rows", "1e6", "--gpus", "1", "--figures", str(FIGURES), "--gpu"]
    assert "caption: 989 TFLOP/s" in CliRunner().invoke(app, [*command, "h100"]).output
    refused = CliRunner().invoke(app, [*command, "tpu"])
    assert refused.exit_code == 1
    assert "--gpu: want one of a100, h100, h200, found tpu" in refused.output


def test_a_figure_without_a_source_is_refused(tmp_path):
    values = yaml.safe_load(FIGURES.read_text())
    del values["score"]["tflop"]["source"]
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=r"mine\.yml: score\.tflop\.source"):
        read_figures(tmp_path / "mine.yml")
