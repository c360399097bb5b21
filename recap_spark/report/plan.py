"""a plan → a table for people"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from recap_spark.planner import Figures, Plan


def print_plan(plans: Sequence[Plan], *, figures: Figures, console: Console) -> None:
    """A line a stage, its formula below, the sums, and where every figure comes from."""
    table = Table("stage", "images/s", "hours", "workers", "worker-hours", "TB", "USD")
    for each in plans:
        table.add_row(
            each.stage,
            f"{each.images_per_s:,.0f}",
            f"{each.hours:,.1f}",
            f"{each.workers} {each.unit}s",
            f"{each.worker_hours:,.0f}",
            f"{each.stored_tb:,.2f}",
            f"{each.usd:,.0f}",
        )
    stored_tb, usd = sum(each.stored_tb for each in plans), sum(each.usd for each in plans)
    table.add_row(
        "all", "", f"{sum(each.hours for each in plans):,.1f}", "", "", f"{stored_tb:,.2f}", f"{usd:,.0f}"
    )
    console.print(table)
    for each in plans:
        console.print(
            f"{each.stage}: {each.formula}; hours = {each.images:,.0f} images / images/s / 3600",
            soft_wrap=True,
        )
    monthly = stored_tb * figures.storage.usd_per_tb_month.value
    console.print(f"storage: {stored_tb:,.2f} TB, {monthly:,.0f} USD a month")
    for name, label, source in sources(figures.model_dump()):
        console.print(f"  {label:<9} {name}: {source}", soft_wrap=True, style="dim")


def sources(values: dict[str, object], path: str = "") -> list[tuple[str, str, str]]:
    """Every figure by its key, with its label and its source."""
    if "label" in values and "source" in values:
        return [(path.removeprefix("."), str(values["label"]), str(values["source"]))]
    nested = (sources(held, f"{path}.{key}") for key, held in values.items() if isinstance(held, dict))
    return [line for lines in nested for line in lines]
