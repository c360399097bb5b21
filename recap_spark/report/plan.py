"""a plan → a table for people"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from recap_spark.planning.figures import Figures
from recap_spark.planning.planner import Plan


def print_plan(plans: Sequence[Plan], *, gpu: str, figures: Figures, console: Console) -> None:
    """A line a stage, its formula below, the sums, and where every figure comes from."""
    table = Table("stage", "images/s", "hours", "workers", "work", "TB", "USD")
    for each in plans:
        table.add_row(
            each.stage,
            f"{each.images_per_s:,.0f}",
            f"{each.hours:,.1f}",
            f"{each.workers.count} {each.workers.unit}s",
            f"{each.worker_hours:,.0f} {each.workers.unit}-h",
            f"{each.stored_tb:,.2f}",
            f"{each.usd:,.0f}",
        )
    hours, stored_tb, usd = (
        sum(values)
        for values in zip(*((each.hours, each.stored_tb, each.usd) for each in plans), strict=True)
    )
    table.add_row("all", "", f"{hours:,.1f}", "", "", f"{stored_tb:,.2f}", f"{usd:,.0f}")
    console.print(table)
    for each in plans:
        for line in formulas(each):
            console.print(line, soft_wrap=True, highlight=False)
    price = figures.storage.usd_per_tb_month.value
    monthly = f"{stored_tb:,.2f} TB x {price:g} USD = {stored_tb * price:,.0f} USD a month"
    console.print(f"storage: {monthly}", soft_wrap=True, highlight=False)
    reckoned_with = figures.model_copy(update={"gpus": {gpu: figures.gpus[gpu]}})
    for name, label, source in sources(reckoned_with.model_dump()):
        console.print(f"  {label:<9} {name}: {source}", soft_wrap=True, style="dim", highlight=False)


def formulas(plan: Plan) -> tuple[str, str, str, str]:
    """How each figure of a stage's line comes about."""
    unit, count = plan.workers.unit, plan.workers.count
    return (
        f"{plan.stage}: {plan.formula} = {plan.per_worker:,.1f} images/s a {unit}, x {count} {unit}s",
        f"  {plan.images:,.0f} images / {plan.images_per_s:,.0f} images/s / 3600 = {plan.hours:,.1f} h",
        f"  {plan.worker_hours:,.0f} {unit}-hours x {plan.workers.usd_per_hour:g} USD = {plan.usd:,.0f} USD",
        f"  {plan.kept:,.0f} rows x {plan.row_kb:g} KB = {plan.stored_tb:,.2f} TB",
    )


def sources(values: dict[str, object], path: str = "") -> list[tuple[str, str, str]]:
    """Every figure by its key, with its label and its source."""
    if "label" in values and "source" in values:
        return [(path.removeprefix("."), str(values["label"]), str(values["source"]))]
    nested = (sources(held, f"{path}.{key}") for key, held in values.items() if isinstance(held, dict))
    return [line for lines in nested for line in lines]
