"""The page's speed: when it is ready, what a comparison costs, and what looking another way costs.

    python tests/benchmarks/page.py [--backbone timm:vit_base_patch16_224] [--rounds 7]

- ready: seconds from the command's start until ``/healthz`` says ready, with the phantom. Target: at most 6.
- comparison / two bare passes: what one uploaded image costs on the server (both runs, faithfulness, maps,
  numbers) to two forward passes of the bare model on one image. Rounds alternate. Target: at most 2.
- looking: milliseconds of the server for another block's maps, from what was computed. Target: at most 150,
  with the browser's share in it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from tests.tools.app_page import serve_page
from ttr.apps.html import panels
from ttr.apps.html.panels import Look
from ttr.apps.image.intake import take_in
from ttr.apps.image.workbench import Chosen, Workbench
from ttr.backbones import load
from ttr.datasets.registry import sample_paths
from ttr.registers.neurons import RegisterNeurons


def seconds(task: Callable[[], object]) -> float:
    """Return the wall time of a task."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def ready() -> float:
    """Return the seconds until the page is ready."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with serve_page(Path(folder)):
            return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="timm:vit_base_patch16_224")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    starts = sorted(ready() for _ in range(3))
    print(f"ready                         {starts[1]:.2f} s  target: at most 6 (of {starts})")
    for name in ("phantom", options.backbone):
        report(name, options.rounds)


@torch.no_grad()
def report(name: str, rounds: int) -> None:
    """Print what a comparison and a look cost with one model."""
    backbone = load(name)
    workbench = Workbench({name: lambda: backbone})
    pairs = backbone.planted or [(layer, index) for layer in (1, 2) for index in range(10)]
    chosen = Chosen(name, "given", RegisterNeurons.from_pairs(pairs))
    picture = take_in(sample_paths()["chest"])
    batch = backbone.preprocess(picture.image)[None]
    case = workbench.case(picture, chosen)
    bare, compared = [], []
    for _ in range(rounds):
        bare.append(seconds(lambda: [backbone.embed(batch) for _ in range(2)]))
        compared.append(seconds(lambda: shown(workbench, picture, chosen)))
    last = case.inspection.layers
    looks = [1000 * seconds(partial(panels.attention, case, Look(each % last))) for each in range(rounds)]
    ratios = sorted(ours / theirs for ours, theirs in zip(compared, bare, strict=True))
    print(f"{name}: comparison {1000 * statistics.median(compared):.0f} ms")
    print(f"comparison / two bare passes  {statistics.median(ratios):.2f}  target: at most 2 for a ViT-B/16")
    print(f"  rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(f"looking at another block      {statistics.median(looks):.0f} ms")


def shown(workbench: Workbench, picture: object, chosen: Chosen) -> None:
    """Compute all that the page shows of an uploaded image."""
    case = workbench.case(picture, chosen)
    look = Look(case.inspection.layers - 1)
    for panel in (panels.attention, panels.norms, panels.colours):
        panel(case, look)
    panels.numbers(case)


if __name__ == "__main__":
    main()
