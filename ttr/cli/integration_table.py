"""The small table at the end of ``ttr integrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ttr.cli.tables import print_path

if TYPE_CHECKING:
    from pandas import DataFrame


def show_integration(table: DataFrame, changes: DataFrame, page: Path) -> None:
    """Print the map's faithfulness at the last block, what registers change of it, and the page to open."""
    from rich.console import Console
    from rich.table import Column, Table

    from ttr.analysis.faithfulness import grade

    title = "the map of the last block: faithfulness, and CKA of the patches with the whole"
    shown = Table(Column("model", overflow="fold"), "R", title=title, title_justify="left")
    for column in ("faithfulness", "95 % interval", "grade", "CKA"):
        shown.add_column(column, justify="right", no_wrap=True)
    for (name, registers), rows in table.groupby(["backbone", "num_registers"], sort=False):
        part = rows[rows.block == rows.block.max()].set_index("part").loc["patches"]
        interval = f"{part.cosine_low:.3f}..{part.cosine_high:.3f}"
        cells = (f"{part.cosine:.3f}", interval, grade(part.cosine), f"{part.cka:.3f}")
        shown.add_row(name, str(registers), *cells)
    console = Console()
    console.print(shown)
    for row in changes.itertuples():
        console.print(
            f"{row.backbone}, block {row.block}, R = {row.num_registers} against the bare model: "
            f"{row.difference:+.4f} ({row.ci_low:+.4f}..{row.ci_high:+.4f}), {row.verdict}",
            highlight=False,
            soft_wrap=True,
        )
    print_path(page)
