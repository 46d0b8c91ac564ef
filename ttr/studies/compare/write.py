"""The comparison as a folder: compare.json, index.html and, written last, manifest.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ttr.backbones.base import Backbone
from ttr.errors import ImageError
from ttr.files import MANIFEST, whole_folder, write_json, write_text
from ttr.registers.neurons import RegisterNeurons
from ttr.studies.compare.comparison import ImageComparison, compare
from ttr.studies.compare.page import SHOWN, render


def write_comparison(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: Iterable[Any],
    names: Sequence[str],
    out: Path,
    *,
    title: str = "Before and after test-time registers",
    num_registers: int = 1,
    results: str = "compare.json",
    extra: dict[str, Any] | None = None,
    progress: bool = False,
    **settings: Any,
) -> list[ImageComparison]:
    """Compare images and write the folder ``out``; return the comparisons (pixels of the shown ones alone).

    Args:
        backbone: the bare backbone.
        neurons: its register neurons.
        images: PIL images or tensors, in the order of ``names``.
        names: a name for each image.
        out: folder to make; an earlier result is replaced.
        title: heading of the page.
        num_registers: R >= 0.
        results: name of the JSON file.
        extra: when given, the JSON is an object with these entries and ``images``, not a bare list.
        progress: show a progress bar.
        settings: further settings of :func:`ttr.studies.compare.comparison.compare` (threshold,
            outlier_layer, batch_size).

    Raises:
        TTRError: as ``compare`` does, or ``out`` cannot be written.
    """
    found = compare(
        backbone, neurons, images, names=names, num_registers=num_registers, progress=progress, **settings
    )
    with whole_folder(out) as folder:
        comparisons = list(_lighten(found))
        if not comparisons:
            raise ImageError("no images were given; needed at least one to compare")
        entries = [comparison.to_json() for comparison in comparisons]
        write_json(folder / results, entries if extra is None else {**extra, "images": entries})
        page = render(
            comparisons[:SHOWN],
            neurons,
            title=title,
            truth=backbone.planted,
            left_out=max(0, len(comparisons) - SHOWN),
        )
        write_text(folder / "index.html", page)
        made_with = dict(comparisons[0].provenance)
        manifest = {"files": [results, "index.html"], "neurons": neurons.pairs, "provenance": made_with}
        write_json(folder / MANIFEST, manifest)
    return comparisons


def _lighten(comparisons: Iterable[ImageComparison]) -> Iterator[ImageComparison]:
    """Keep the pixels of the images that the page shows, and of no more."""
    nothing = np.empty((0, 0, 3), dtype=np.uint8)
    for index, comparison in enumerate(comparisons):
        yield comparison if index < SHOWN else replace(comparison, pixels=nothing)
