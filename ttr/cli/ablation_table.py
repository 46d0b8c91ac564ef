"""The table at the end of ``ttr ablate``: what each condition costs each task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.cli.tables import print_path, show_skipped

if TYPE_CHECKING:
    from pandas import DataFrame

#: The metric that speaks for a task.
SHOWN = {
    "probe": "top1",
    "knn": "recall_at_1",
    "correspondence": "pck_0.1",
    "segmentation": "miou",
    "oneshot": "accuracy",
}


def show_ablation(results: DataFrame, skipped: Mapping[str, str], page: Path) -> None:
    """Print each condition's change from full in points, and the page to open."""
    from rich.console import Console
    from rich.table import Column, Table

    tasks = list(dict.fromkeys(results["task"]))
    title = "change from full, in points (*: Holm p < .05 and an interval without 0)"
    right = [Column(task, justify="right", no_wrap=True) for task in tasks]
    table = Table(Column("condition", no_wrap=True), *right, title=title, title_justify="left")
    shown = results[[SHOWN[row.task] == row.metric for row in results.itertuples()]]
    for condition, part in shown.groupby("condition", sort=False):
        cells = {row.task: _cell(row) for row in part.itertuples()}
        table.add_row(str(condition), *(cells[task] for task in tasks), end_section=condition == "full")
    Console().print(table)
    show_skipped(skipped)
    print_path(page)


def _cell(row: Any) -> str:
    if row.condition == "full":
        return f"{100 * row.value:.1f}"
    star = "" if row.verdict == "not distinguishable" else "*"
    return f"{100 * row.delta:+.1f}{star:1}"
