"""What the faithfulness costs: a comparison with it over one without.

Of the passes that a comparison makes (bare and wrapped, with norms and CLS attention of every block), and of
the whole ``ttr compare`` with its pictures and its page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor

import ttr
from tests.benchmarks import models
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row
from tests.benchmarks.settings import Settings, torch_dtype
from ttr.analysis.faithfulness import Trust, record_with_faithfulness
from ttr.backbones import Backbone
from ttr.datasets.registry import OpenedImages
from ttr.forward.record import Record, record
from ttr.studies.compare.write import write_comparison

MOST = 1.10


def faithfulness(settings: Settings) -> Iterator[Row]:
    """Yield both ratios, on the phantom."""
    dtype = settings.dtypes[0]
    backbone = ttr.load("phantom", device=settings.device, dtype=torch_dtype(dtype))
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    images = models.pictures(backbone, settings.batches[-1], settings.seed)

    def passes(one: Callable[..., Any]) -> None:
        one(backbone, images)
        with ttr.TestTimeRegisters(backbone, neurons):
            one(backbone, images)

    def comparison(one: Callable[..., Any]) -> None:
        within = "ttr.studies.compare.comparison.record_with_faithfulness"
        with tempfile.TemporaryDirectory() as folder, patch(within, one):
            places = OpenedImages(range(len(images)), images.__getitem__)
            write_comparison(backbone, neurons, places, Path(folder) / "out")

    common = {"case": "faithfulness", "model": "phantom", "dtype": dtype, "batch": len(images)}
    wholes = {"passes": passes} if settings.quick else {"passes": passes, "ttr compare": comparison}
    for what, task in wholes.items():
        tasks = {f"{what} without": partial(task, without), what: partial(task, record_with_faithfulness)}
        asked = [Against(what, f"{what} without", MOST)]
        yield from rows(settings, tasks, asked, settings.host_clock, images=len(images), **common)


def without(backbone: Backbone, images: Tensor, **_: object) -> tuple[Record, list[Trust]]:
    """Stand in for the function under test: the same record, and no faithfulness."""
    return record(backbone, images, attention=True), [Trust(0.0)] * len(images)
