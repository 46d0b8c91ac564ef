"""``ttr demo``: the whole way, on a phantom, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.tables import show_comparison


def demo(
    out: options.OutFolder = Path("ttr-demo"),
    phantoms: Annotated[int, typer.Option(min=1, help="Phantom images to detect on.")] = 64,
    dtype: options.Dtype = "float32",
    quiet: options.Quiet = False,
) -> None:
    """Show everything at once: build a phantom, find its register neurons, move them, write the page.

    The phantom is a small Vision Transformer with random weights and planted register neurons, so the
    right answer is known. It runs on phantom images, a real fundus photograph and a real chest radiograph.
    A phantom proves the instrument, not the biology. Needs no network; writes index.html, results.json and
    manifest.json.

    \b
    Example:
      ttr demo --out /tmp/ttr-demo
    """
    from ttr.backbones.phantoms.planting import WARNING
    from ttr.studies.demo import run_demo

    typer.echo(WARNING)
    result = run_demo(out, phantoms=phantoms, dtype=dtype, progress=not quiet)
    typer.echo(
        f"detection: recall {result.recall:.2f}, precision {result.precision:.2f} of "
        f"{len(result.neurons)} neurons against the planted truth; {result.seconds:.1f} s in all"
    )
    show_comparison(result.comparisons, out / "index.html")
