"""What the faithfulness costs: a comparison with it over one without, as ratios of interleaved rounds.

    python tests/benchmarks/faithfulness.py [--backbone phantom] [--batch 8] [--rounds 15]

The target, at most 1.10, is printed beside the figures. Two ratios are shown: of the passes that a comparison
makes (bare and wrapped, with norms and CLS attention of every block), and of the whole ``ttr compare`` with
its pictures and its page. Nothing is asserted: a time is a property of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from forward import interleaved
from torch import Tensor

import ttr
from ttr.analysis.faithfulness import Trust, record_with_faithfulness
from ttr.analysis.reference import Reference
from ttr.backbones import Backbone
from ttr.datasets.registry import OpenedImages
from ttr.forward.record import Record, record
from ttr.studies.compare.write import write_comparison


def without(
    backbone: Backbone, images: Tensor, reference: Reference | None = None
) -> tuple[Record, list[Trust]]:
    """Stand in for the function under test: the same record, and nothing measured."""
    return record(backbone, images, attention=True), [Trust(0.0)] * len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="phantom")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    backbone = ttr.load(options.backbone)
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted or [(1, 7), (2, 700)])
    images = torch.randn(options.batch, 3, *backbone.image_size, generator=torch.Generator().manual_seed(0))

    def passes(one) -> None:
        one(backbone, images)
        with ttr.TestTimeRegisters(backbone, neurons):
            one(backbone, images)

    def page(one) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            patch("ttr.studies.compare.comparison.record_with_faithfulness", one),
        ):
            places = OpenedImages(range(len(images)), images.__getitem__)
            write_comparison(backbone, neurons, places, Path(folder) / "out")

    for title, task in (("passes", passes), ("ttr compare", page)):
        tasks = {
            "without": partial(task, without),
            "with": partial(task, record_with_faithfulness),
        }
        times = interleaved(options.rounds, tasks)
        ratios = [w / o for w, o in zip(times["with"], times["without"], strict=True)]
        print(
            f"{backbone.name}, batch {options.batch}, {title}: with / without "
            f"{statistics.median(ratios):.3f} (rounds {min(ratios):.3f} to {max(ratios):.3f}); "
            "target: at most 1.10"
        )


if __name__ == "__main__":
    main()
