"""A scan as a folder: models and images in, where each model has outliers out, and which remedy it needs.

The folder holds ``scan.csv`` (a row a model, size and block), ``models.csv`` (a row a model and size; columns
in :mod:`ttr.studies.scan.tables`), ``index.html`` (self-contained) and, written last, ``manifest.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead
from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, number
from ttr.errors import OptionError
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.norms import Threshold
from ttr.run import Run
from ttr.studies.provenance import provenance
from ttr.studies.scan.measure import BATCH, Scanned, scan
from ttr.studies.scan.pictures import shares_by_block
from ttr.studies.scan.remedy import CEILING, FLOOR, REMEDIES, Verdict, answer, verdict
from ttr.studies.scan.settings import ScanSettings
from ttr.studies.scan.tables import by_block, by_model
from ttr.studies.schemas import SCAN, result_folder

RULES = {
    "auto": "A patch is an outlier above max(m + 3 · 1.4826 MAD, 2 m), m the median patch norm of its image "
    "at that block and MAD the median distance from it.",
    "mean+3sd": "A patch is an outlier above mean + 3 SD of the patch norms of its image at that block. By "
    "that rule a clean map has some, too.",
}


@dataclass(frozen=True, eq=False)
class Scan:
    """What was found.

    Attributes:
        found: each model at each size, with what is to be done about it.
        answer: the same in one sentence.
        skipped: {name: reason} of images that could not be read.
    """

    found: list[tuple[Scanned, Verdict]]
    answer: str
    skipped: dict[str, str]


def write_scan(
    backbones: Sequence[str],
    load: Callable[[str, int | None], Backbone],
    images: OpenedImages,
    out: Path,
    settings: ScanSettings | None = None,
    run: Run | None = None,
) -> Scan:
    """Scan models at one or several sizes and write the folder ``out``.

    Args:
        backbones: names, each once.
        load: (name, side of the input, None: the model's own) -> the bare backbone.
        images: the images.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default, in batches of 16 images.

    Raises:
        OptionError: no names, one twice, or a size that is not made of whole patches.
        TTRError: as loading and scanning do, or ``out`` cannot be written.
    """
    settings, run = settings or ScanSettings(), run or Run(batch_size=BATCH)
    if not backbones or len(set(backbones)) != len(backbones):
        raise OptionError(f"backbones {', '.join(backbones) or 'none'}; needed one or more, each once")
    scans: list[Scanned] = []
    made_with: list[dict[str, Any]] = []
    reading = ReadAhead(images, run)
    with result_folder(out) as folder:
        for name in backbones:
            for size in settings.sizes or (None,):
                backbone = load(name, size)
                run.check(backbone)
                _check_whole_patches(backbone)
                scans.append(scan(backbone, reading, settings.threshold, run))
                shown = {
                    "threshold": settings.threshold,
                    "images": images.words,
                    "batch_size": run.batch_size,
                }
                made_with.append(provenance(backbone, **shown, seed=run.seed))
        found = [(scanned, verdict(scanned)) for scanned in scans]
        result = Scan(found, answer(found), dict(reading.skipped))
        blocks = by_block(scans)
        write_table(folder / "scan.csv", blocks)
        write_table(folder / "models.csv", by_model(found))
        write_text(folder / "index.html", _page(result, blocks, settings.threshold, made_with))
        files = ["scan.csv", "models.csv", "index.html"]
        manifest = {"schema": SCAN, "files": files, "answer": result.answer, "provenance": made_with}
        write_json(folder / MANIFEST, manifest | ({"skipped": result.skipped} if result.skipped else {}))
    return result


def _check_whole_patches(backbone: Backbone) -> None:
    """Raise OptionError where a size would cut patches, and the rim of the image would be left out."""
    pairs = list(zip(backbone.image_size, backbone.patch_size, strict=True))
    if any(side % patch for side, patch in pairs):
        side, patch = pairs[0]
        below = side // patch * patch
        raise OptionError(
            f"size {side} is not made of whole patches of {backbone.name}, which have {patch} px; "
            f"needed a multiple, such as {below} or {below + patch}"
        )


def _page(result: Scan, blocks: pd.DataFrame, threshold: Threshold, made_with: list[dict[str, Any]]) -> str:
    needed = {said.remedy for _, said in result.found}
    charts = shares_by_block(blocks)
    return report(
        "scan.html",
        answer=result.answer,
        made_with=made_with,
        charts=charts,
        curves=list(charts),
        models=len({scanned.model for scanned, _ in result.found}),
        images=result.found[0][0].images,
        table=_table(result),
        remedies={remedy: asks for remedy, asks in REMEDIES.items() if remedy in needed},
        rule=RULES.get(str(threshold), f"A patch is an outlier above a norm of {threshold}."),
        floor=FLOOR,
        ceiling=CEILING,
        skipped=result.skipped,
    )


def _table(result: Scan) -> Table:
    """Return a row a size, grouped by model."""
    columns = ("size", "outliers", "trained registers", "artifact score", "remedy")
    caption = (
        "Outliers: blocks that have some, and the largest share of the patches. Artifact score: how much "
        "of the length of all patches outliers hold beyond the median patch, at the block where that is "
        "most; 0 to 1, mean over images, with its 95 % interval"
    )
    groups = grouped(
        result.found,
        lambda pair: pair[0].model,
        lambda pair: [
            *(f"{pair[0].size} px", in_short(pair[1]), str(pair[0].registers or NOTHING)),
            number(pair[1].score, "{:.4f}", pair[1].interval.low, pair[1].interval.high),
            Cell(pair[1].remedy, strong=True),
        ],
    )
    return Table(caption, columns, groups, words=("outliers", "remedy"))


def in_short(said: Verdict) -> str:
    """Return a cell of the table of models and sizes."""
    if said.first is None:
        return said.state
    return f"{said.state}: blocks {said.first}..{said.last}, {100 * said.largest:.1f} %"
