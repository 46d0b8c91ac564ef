"""The small table at the end of a command, and the path to open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttr.comparison import ImageComparison
    from ttr.neurons import RegisterNeurons
    from ttr.tuning import Recommendation, Row

SHOWN = 10


def show_neurons(neurons: RegisterNeurons, out: Path) -> None:
    """Print the best kept neurons with their scores, the message, and the file."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if neurons.pairs:
        table = Table("rank", "block", "neuron", "score", title="register neurons", title_justify="left")
        scores = {(r.layer, r.neuron): r.score for r in neurons.ranking}
        for rank, pair in enumerate(neurons.pairs[:SHOWN], start=1):
            table.add_row(str(rank), str(pair[0]), str(pair[1]), f"{scores[pair]:.3f}")
        console.print(table)
        if len(neurons) > SHOWN:
            console.print(f"... and {len(neurons) - SHOWN} more in the file")
    console.print(neurons.message, highlight=False)
    print_path(out)


def show_comparison(comparisons: Sequence[ImageComparison], page: Path) -> None:
    """Print the mean numbers before and after, and the page to open."""
    from rich.console import Console
    from rich.table import Table

    from ttr.report import rows

    title = f"mean over {len(comparisons)} images"
    table = Table("measured", title=title, title_justify="left")
    for column in ("before", "after", "after / before"):
        table.add_column(column, justify="right")
    for row in rows([c.before for c in comparisons], [c.after for c in comparisons]):
        table.add_row(row.label, row.before, row.after, row.ratio)
    Console().print(table)
    print_path(page)


def show_tuning(advice: Recommendation, rows: Sequence[Row], page: Path) -> None:
    """Print the bare model, the recommended setting and the sweep over registers, and the page to open."""
    from rich.console import Console
    from rich.table import Table

    title = "share of outlier patches, largest patch norm, CLS attention of registers, cosine with R = 1"
    table = Table("setting", title=title, title_justify="left")
    for column in ("outliers", "norm", "attention", "cosine"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.sweep == "neurons" and row != advice.row:
            continue
        name: str = row.sweep
        if row.sweep == "neurons":
            name = f"top_k {row.top_k}, blocks 0..{row.top_layer}"
        elif row.sweep == "registers":
            name = f"R = {row.num_registers}"
        shares = ("–" if x is None else f"{x:.3f}" for x in (row.register_attention, row.cosine))
        table.add_row(name, f"{row.outlier_share:.4f}", f"{row.max_patch_norm:.1f}", *shares)
    console = Console()
    console.print(table)
    console.print(f"{advice.status}: {advice.neurons.message}", highlight=False)
    print_path(page)


def print_path(path: Path) -> None:
    """Print a path on a line of its own, never wrapped, so that it can be copied."""
    import typer

    typer.echo(f"open: {path.resolve()}")
