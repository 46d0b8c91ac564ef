"""A comparison of images that are opened as they are read, a few of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead, draw_sample
from ttr.errors import ImageError
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.compare.comparison import ImageComparison, References, compare
from ttr.studies.compare.page import SHOWN
from ttr.studies.compare.settings import ComparisonSettings

#: Features are centred on a sample of so many of the images, where there are enough of them.
REFERENCE, FEWEST = 16, 8


@dataclass(frozen=True)
class Compared:
    """The comparisons (with pixels of the shown ones alone), and {name: reason} of images left out."""

    images: list[ImageComparison]
    skipped: dict[str, str]


def compare_files(
    backbone: Backbone,
    neurons: RegisterNeurons,
    reading: ReadAhead,
    settings: ComparisonSettings,
    references: References | None = None,
) -> Compared:
    """Compare images that are opened as they are read.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons.
        reading: the images, and how they are run.
        settings: what is measured.
        references: what features are centred on; None: a sample of the images, where there are enough.

    Raises:
        TTRError: as :func:`ttr.compare` does.
    """
    run = reading.run
    found = compare(
        backbone,
        neurons,
        reading,
        names=reading.names,
        reference=references or _reference(reading.images, run),
        **vars(settings),
        batch_size=run.batch_size,
        progress=run.progress,
    )
    comparisons = list(_lighten(found))
    if not comparisons:
        raise ImageError("no images were given; needed at least one to compare")
    return Compared(comparisons, reading.skipped)


def _reference(images: OpenedImages, run: Run) -> ReadAhead | None:
    """Return a sample of the images to centre on; None: they are too few, and the library's stand in."""
    if len(images) < FEWEST:
        return None
    places = draw_sample(range(len(images)), REFERENCE, run.seed)
    return ReadAhead(images.take(places), replace(run, on_error="skip"))


def _lighten(comparisons: Iterable[ImageComparison]) -> Iterator[ImageComparison]:
    """Keep the pixels of the images that the page shows, and of no more."""
    nothing = np.empty((0, 0, 3), dtype=np.uint8)
    for index, comparison in enumerate(comparisons):
        yield comparison if index < SHOWN else replace(comparison, pixels=nothing)
