"""A comparison as a folder: what was measured of each image, and a page of it.

It holds ``compare.json`` (one entry an image), ``index.html`` (self-contained), where it is asked for
``dicom/`` and, written last, ``manifest.json``. It appears under its name only when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ttr.backbones.base import Backbone
from ttr.datasets.dicom.origin import Origin
from ttr.datasets.registry import OpenedImages, ReadAhead, draw_sample
from ttr.errors import ImageError
from ttr.files import MANIFEST, write_json, write_text
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.compare.comparison import ImageComparison, compare
from ttr.studies.compare.dicom_out import FOLDER, DicomOut, write_dicom
from ttr.studies.compare.page import SHOWN, render
from ttr.studies.compare.settings import ComparisonSettings
from ttr.studies.schemas import COMPARISON, result_folder

BATCH = 8
#: Features are centred on a sample of so many of the images, where there are enough of them.
REFERENCE, FEWEST = 16, 8


@dataclass(frozen=True)
class Figure:
    """A picture ahead of the comparison: its heading, the picture as a data URI, and what it shows."""

    title: str
    uri: str
    text: str


@dataclass(frozen=True)
class Page:
    """What the folder's page and its JSON are called, and what the JSON says besides.

    Attributes:
        title: heading of the page.
        answer: what was found, in one sentence; empty: what the comparison says.
        results: name of the JSON file.
        schema: of the folder.
        extra: when given, the JSON is an object with these entries and ``images``, not a bare list.
        figures: pictures ahead of the comparison.
    """

    title: str = "Before and after test-time registers"
    answer: str = ""
    results: str = "compare.json"
    schema: str = COMPARISON
    extra: dict[str, Any] | None = None
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Compared:
    """The comparisons (with pixels of the shown ones alone), and {name: reason} of images left out."""

    images: list[ImageComparison]
    skipped: dict[str, str]


def write_comparison(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: OpenedImages,
    out: Path,
    settings: ComparisonSettings | None = None,
    run: Run | None = None,
    page: Page | None = None,
    dicom: DicomOut | None = None,
) -> Compared:
    """Compare images and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons.
        images: the images.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default, in batches of 8 images.
        page: what the page is called.
        dicom: how the results are written in DICOM, too; None: they are not.

    Raises:
        TTRError: as :func:`ttr.compare` does, or ``out`` cannot be written.
    """
    settings, run, page = settings or ComparisonSettings(), run or Run(batch_size=BATCH), page or Page()
    run.check(backbone)
    sources: dict[str, tuple[Path, Origin]] = {}
    if dicom is not None:
        images, sources = dicom.sourced(images)
    reading = ReadAhead(images, run)
    found = compare(
        backbone,
        neurons,
        reading,
        names=reading.names,
        reference=_reference(images, run),
        **vars(settings),
        batch_size=run.batch_size,
        progress=run.progress,
    )
    with result_folder(out) as folder:
        comparisons = list(_lighten(found))
        if not comparisons:
            raise ImageError("no images were given; needed at least one to compare")
        entries = [comparison.to_json() for comparison in comparisons]
        content = entries if page.extra is None else {**page.extra, "images": entries}
        write_json(folder / page.results, content)
        html = render(
            comparisons[:SHOWN],
            neurons,
            title=page.title,
            answer=page.answer,
            figures=page.figures,
            truth=backbone.planted,
            left_out=max(0, len(comparisons) - SHOWN),
            skipped=reading.skipped,
        )
        write_text(folder / "index.html", html)
        if dicom is not None:
            write_dicom(folder / FOLDER, backbone, comparisons, sources, dicom)
        made_with = dict(comparisons[0].provenance)
        manifest = {
            "schema": page.schema,
            "files": [page.results, "index.html", *([FOLDER] if dicom is not None else [])],
            "neurons": neurons.pairs,
            "provenance": made_with,
        }
        skipped = {"skipped": reading.skipped} if reading.skipped else {}
        write_json(folder / MANIFEST, manifest | skipped)
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
