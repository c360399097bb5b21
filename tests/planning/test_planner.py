"""The plan's figures are those that the same sums give by hand."""

from types import SimpleNamespace

import pytest
import torch
import yaml
from repository import CONF
from rich.console import Console
from typer.testing import CliRunner

from recap_spark.cli import app
from recap_spark.errors import SettingsError
from recap_spark.models.llava.cost import Dimensions, resident_bytes
from recap_spark.models.llava.slots import prefill_bytes, slot_bytes, slots_that_fit
from recap_spark.planning.figures import Figures, read_figures
from recap_spark.planning.planner import Plan, engine_slots, plan
from recap_spark.report.plan import print_plan, sources

FIGURES = CONF / "planner.yml"


def figures(**changed: float) -> Figures:
    """The committed figures with some values in the place of theirs: captioner__engine_share=1."""
    values = yaml.safe_load(FIGURES.read_text())
    for key, value in changed.items():
        section, _, name = key.partition("__")
        values[section][name]["value"] = value
    return Figures.model_validate(values)


def with_memory(gpu: str, gigabytes: float) -> Figures:
    values = yaml.safe_load(FIGURES.read_text())
    values["gpus"][gpu]["memory_gb"]["value"] = gigabytes
    return Figures.model_validate(values)


def caption(known: Figures, *, gpu: str = "h100", gpus: int = 256, rows: float = 1.3e9) -> Plan:
    (one,) = (
        each for each in plan(known, rows=rows, gpu=gpu, gpus=gpus, cores=1024) if each.stage == "caption"
    )
    return one


@pytest.mark.parametrize(
    ("gpu", "slots", "images_per_s"), [("a100", 554, 31.0), ("h100", 554, 89.3), ("h200", 1135, 96.5)]
)
def test_at_the_data_sheet_s_rates_a_gpu_captions_at_its_physical_limit(gpu, slots, images_per_s):
    ideal = figures(reached__tflops=1, reached__tb_per_s=1, captioner__engine_share=1, captioner__slots=slots)
    assert round(caption(ideal, gpu=gpu).per_worker, 1) == images_per_s


def test_a_caption_s_pace_is_the_sum_of_its_phases_done_by_hand():
    # Prefill 8.946 TFLOP at 0.797 x 989 TFLOP/s: 11.35 ms. Decode reads 65 times its share of 15.0 GB of
    # weights and 639 positions of 131,072 bytes: 7.35 GB at 0.896 x 3.35 TB/s, 2.45 ms.
    prefill_s = 8.946e12 / (0.797 * 989e12)
    decode_s = 65 * (2 * (6_979_321_856 + 128256 * 4096) / 512 + 639 * 131_072) / (0.896 * 3.35e12)
    known = caption(figures())
    assert known.per_worker == pytest.approx(0.69 / (prefill_s + decode_s), rel=1e-4)
    assert known.per_worker == pytest.approx(50.0, abs=0.1)


@pytest.mark.parametrize(
    ("gpu", "slots", "images_per_s"),
    [
        ("l4", 40, 3.4),
        ("a10g", 40, 3.2),
        ("l40s", 265, 16.1),
        ("a100_40gb", 190, 15.8),
        ("a100", 512, 17.2),
        ("h100", 512, 50.0),
        ("h200", 512, 52.8),
        ("b200", 512, 114.7),
    ],
)
def test_each_card_that_is_rented_has_as_many_slots_as_its_memory_holds(gpu, slots, images_per_s):
    known = figures()
    assert engine_slots(known, gpu) == slots
    planned = caption(known, gpu=gpu)
    assert round(planned.per_worker, 1) == images_per_s
    assert f"{slots} slots" in planned.formula
    assert set(known.gpus) == {"l4", "a10g", "l40s", "a100_40gb", "a100", "h100", "h200", "b200"}


def test_a_card_that_does_not_hold_the_captioner_is_refused_in_one_line():
    with pytest.raises(SettingsError) as refused:
        caption(with_memory("l4", 16), gpu="l4")
    wanted = "want a GPU of 19.7 GB, 16.7 of them for the captioner's weights in bfloat16"
    assert str(refused.value) == f"--gpu: {wanted}, found l4 of 16 GB"
    assert engine_slots(with_memory("l4", 19.8), "l4") == 1


def test_slots_are_counted_as_the_engine_counts_them():
    """By its own functions, given LLaMA-3-8B's shapes on a GPU."""
    weight = torch.empty(128256, 4096, dtype=torch.bfloat16, device="meta")
    shapes = SimpleNamespace(groups=8, heads=32, width=128, layers=range(32), embedding_ve=weight, fused=True)
    weights, prompts, slot = resident_bytes(
        Dimensions(**figures().captioner.model.model_dump()),
        positions=734,
        prompt_tokens=606,
        prompts=16,
        element_bytes=2,
    )
    assert slot == slot_bytes(shapes, positions=734)
    assert prompts == 16 * prefill_bytes(shapes, positions=606, intermediate=14336)
    free = int((24e9 - weights) * 0.9)
    assert slots_that_fit(most=512, free_bytes=free, one_slot_bytes=slot, aside_bytes=prompts) == 40


def test_hours_money_and_storage_follow_from_the_pace():
    known = caption(figures(fetch__success_share=0.5, storage__caption_kb=2.0), gpus=100, rows=2e9)
    assert known.images_per_s == 100 * known.per_worker
    assert known.hours == pytest.approx(1e9 / (100 * known.per_worker) / 3600)
    assert known.worker_hours == pytest.approx(100 * known.hours)
    assert known.usd == pytest.approx(3.0 * known.worker_hours)
    assert known.stored_tb == pytest.approx(2.0)


def test_each_stage_counts_the_rows_that_reach_it():
    half = figures(
        fetch__success_share=0.5, fetch__ratio=2.0, storage__image_kb=100.0, storage__caption_kb=1.0
    )
    plans = {each.stage: each for each in plan(half, rows=2e9, gpu="h200", gpus=8, cores=100)}
    assert {name: round(each.images) for name, each in plans.items()} == {
        "ingest": 2e9,
        "fetch": 2e9,
        "caption": 1e9,
        "score": 1e9,
        "export": 1e9,
    }
    # 2 x 84 images/s on each of 100 cores: 2e9 / 16,800 / 3600 hours, at 0.04 USD a core's hour.
    assert round(plans["fetch"].hours, 2) == 33.07
    assert round(plans["fetch"].usd, 1) == round(33.0688 * 100 * 0.04, 1)
    assert (plans["fetch"].stored_tb, plans["export"].stored_tb) == (100.0, 101.0)


def test_more_gpus_save_hours_and_no_money():
    few, many = (caption(figures(), gpus=gpus) for gpus in (8, 64))
    assert few.hours == pytest.approx(8 * many.hours)
    assert few.usd == pytest.approx(many.usd)


def test_every_figure_says_where_it_comes_from():
    values = yaml.safe_load(FIGURES.read_text())
    assert len(sources(values)) == str(values).count("'label'")


def test_the_printed_plan_shows_stages_formulas_and_sources():
    console = Console(record=True, width=120)
    known = figures()
    stages = plan(known, rows=1.3e9, gpu="h100", gpus=256, cores=1024)
    print_plan(stages, gpu="h100", figures=known, console=console)
    text = console.export_text()
    assert (
        "caption: T = 989 x 0.797 TFLOP/s, B = 3.35 x 0.896 TB/s, 512 slots; 1 / (8.95 TFLOP / T + " in text
    )
    assert "max(1.00 TFLOP / T, 7.35 GB / B)) = 72.5, x 0.69 = 50.0 images/s a GPU, x 256 GPUs" in text
    shown = (
        "ingest",
        "fetch",
        "score",
        "export",
        "assumed",
        "USD a month",
        "GPU-hours x 3 USD = ",
        "gpus.h100.",
    )
    for words in shown:
        assert words in text
    assert "gpus.a100." not in text


def test_the_command_names_the_cards_it_knows():
    command = ["plan", "--rows", "1e6", "--gpus", "1", "--figures", str(FIGURES), "--gpu"]
    assert "T = 989 x 0.797 TFLOP/s" in CliRunner().invoke(app, [*command, "h100"]).output
    refused = CliRunner().invoke(app, [*command, "tpu"])
    assert refused.exit_code == 1
    known = "a100, a100_40gb, a10g, b200, h100, h200, l4, l40s"
    assert f"--gpu: want one of {known}, found tpu" in refused.output


def test_a_figure_without_a_source_is_refused(tmp_path):
    values = yaml.safe_load(FIGURES.read_text())
    del values["score"]["tflop"]["source"]
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=r"mine\.yml: score\.tflop\.source"):
        read_figures(tmp_path / "mine.yml")
