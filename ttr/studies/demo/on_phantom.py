"""The demonstration on a phantom backbone, in under a minute.

It builds the phantom, detects its register neurons over phantom images and the two bundled samples, moves
them, and writes the page. Since the neurons were planted, it can say whether detection was right.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import torch

from ttr.backbones import load
from ttr.datasets.registry import in_memory, open_image, phantom_images, sample_paths
from ttr.registers.detection import detect
from ttr.run import Run, check_dtype
from ttr.studies.compare.write import Page, write_comparison
from ttr.studies.demo.found import Demo, Detected
from ttr.studies.schemas import DEMO

TITLE = "Test-time registers: before and after, on a phantom"


def on_phantom(
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
    found = Detected.of(neurons, backbone.planted, len(samples) + len(drawn))
    shown = {**samples, **{p.name: p.image for p in islice(drawn, shown_phantoms)}}
    seconds = time.perf_counter() - start
    compared = write_comparison(
        backbone,
        neurons,
        in_memory(shown),
        out,
        run=Run(batch_size=8, progress=progress),
        page=Page(
            title=TITLE,
            results="results.json",
            schema=DEMO,
            extra={
                "schema": DEMO,
                "warning": backbone.warning,
                "detection": {**found.to_json(), "seconds": round(seconds, 2)},
            },
        ),
    )
    return Demo(found, compared.images, time.perf_counter() - start)
