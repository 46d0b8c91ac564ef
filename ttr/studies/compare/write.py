"""A comparison as a folder: what was measured of each image, and a page of it.

It holds ``compare.json`` (one entry an image), ``index.html`` (self-contained), where it is asked for
``dicom/`` and, written last, ``manifest.json``. It appears under its name only when it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead
from ttr.files import MANIFEST, write_json, write_text
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.compare.dicom_out import FOLDER, DicomOut, Source, write_dicom
from ttr.studies.compare.files import Compared, compare_files
from ttr.studies.compare.page import SHOWN, render
from ttr.studies.compare.settings import ComparisonSettings
from ttr.studies.schemas import COMPARISON, result_folder

BATCH = 8


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
    sources: dict[str, Source] = {}
    if dicom is not None:
        images, sources = dicom.sourced(images, backbone)
    with result_folder(out) as folder:
        compared = compare_files(backbone, neurons, ReadAhead(images, run), settings)
        comparisons = compared.images
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
            skipped=compared.skipped,
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
        skipped = {"skipped": compared.skipped} if compared.skipped else {}
        write_json(folder / MANIFEST, manifest | skipped)
    return compared
