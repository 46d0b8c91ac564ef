"""The demonstration: everything ttr does, on a phantom backbone, in under a minute and offline.

It builds the phantom, detects its register neurons over phantom images and the two bundled samples, moves
them, and writes the page. Since the neurons were planted, it can say whether detection was right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from ttr.backbones import load
from ttr.datasets.registry import in_memory, open_image, phantom_images, sample_paths
from ttr.registers.detection import detect
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run, check_dtype
from ttr.studies.compare.comparison import ImageComparison
from ttr.studies.compare.write import Page, write_comparison
from ttr.studies.schemas import DEMO

TITLE = "Test-time registers: before and after, on a phantom"


@dataclass(frozen=True)
class Demo:
    """What the demonstration found: the neurons, the comparisons, and how detection did against the truth."""

    neurons: RegisterNeurons
    comparisons: list[ImageComparison]
    recall: float
    precision: float
    seconds: float


def run_demo(
    out: Path,
    *,
    phantoms: int = 64,
    shown_phantoms: int = 4,
    dtype: str = "float32",
    progress: bool = True,
) -> Demo:
    """Run the demonstration into folder ``out``.

    Args:
        out: folder to make; an earlier result is replaced.
        phantoms: phantom images to detect on, besides the samples.
        shown_phantoms: how many of them the page shows.
        dtype: in which type the phantom computes, see :data:`ttr.run.DTYPES`.
        progress: show progress bars.
    """
    start = time.perf_counter()
    backbone = load("phantom", dtype=getattr(torch, check_dtype(dtype)))
    samples = {name: open_image(path) for name, path in sample_paths().items()}
    drawn = list(phantom_images(phantoms))
    neurons = detect(backbone, [*samples.values(), *(p.image for p in drawn)], progress=progress)
    truth, found = set(backbone.planted), set(neurons.pairs)
    recall, precision = len(truth & found) / len(truth), len(truth & found) / max(len(found), 1)
    shown = {**samples, **{p.name: p.image for p in islice(drawn, shown_phantoms)}}
    seconds = time.perf_counter() - start
    compared = write_comparison(
        backbone,
        neurons,
        in_memory(shown),
        out,
        run=Run(batch_size=8, progress=progress),
        page=Page(
            TITLE,
            "results.json",
            DEMO,
            {
                "schema": DEMO,
                "warning": backbone.warning,
                "detection": {
                    "message": neurons.message,
                    "images": len(samples) + len(drawn),
                    "pairs": neurons.pairs,
                    "planted": list(backbone.planted),
                    "recall": recall,
                    "precision": precision,
                    "seconds": round(seconds, 2),
                },
            },
        ),
    )
    return Demo(neurons, compared.images, recall, precision, time.perf_counter() - start)
