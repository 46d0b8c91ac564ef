"""The page of ``ttr reproduce medical``: published beside measured, and the study's figures of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.drawing.html import fill
from ttr.drawing.maps import AFTER, ATTENTION_MAP, BEFORE, NORM_MAP, png_uri
from ttr.drawing.norms_and_attention import largest_by_block, map_uri, patches_and_registers
from ttr.statistics.verdict import said
from ttr.studies.integrate.write import phantom_warnings, together
from ttr.studies.reproduce.medical_cell import Cell
from ttr.studies.reproduce.medical_figures import Figures, Passed
from ttr.studies.reproduce.medical_further import TABLES
from ttr.studies.reproduce.medical_settings import PUBLISHED, MedicalSettings
from ttr.studies.reproduce.medical_sweep import sweep_curves
from ttr.studies.reproduce.published import PublishedStudy
from ttr.wording import counted

#: Numbers of the study's figures: bare, wrapped, distributions, maps.
NUMBERS = {"dinov2-vit-l-14": ("1", "3", "5", "7 and 9"), "clip-vit-b-16": ("2", "4", "6", "7 and 8")}


def medical_page(
    study: PublishedStudy,
    settings: MedicalSettings,
    cells: Sequence[Cell],
    missing: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
) -> str:
    """Return the page.

    Args:
        study: the published numbers.
        settings: what was asked for; other models than the published ones have no published detection.
        cells: those that were measured, at least one.
        missing: what is missing, a sentence each.
        tables: all that is written, by the files' names.
    """
    instead = ", ".join(dict.fromkeys(cell.made_with["backbone"]["name"] for cell in cells))
    made_with = [dict(cell.made_with) for cell in cells]
    return fill(
        "medical.html",
        study=study,
        settings=settings,
        registers=settings.registers(study),
        instead="" if settings.published_detection else instead,
        warnings=phantom_warnings(made_with),
        missing=missing,
        rows=_judged(tables["reproduction"]),
        further={TABLES[name]: _judged(rows) for name, rows in tables.items() if name in TABLES},
        sweeps=list(sweeps_of(tables.get("sweep"))),
        sweep=TABLES["sweep"],
        cells=[_cell(study, cell) for cell in cells],
        counted=counted,
        provenance=together(made_with),
    )


def _judged(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{**row, "said": said(row)} for row in table.to_dict("records")]


def sweeps_of(table: pd.DataFrame | None) -> Iterator[dict[str, str]]:
    """Yield each cell's curves over R; a single R is no curve."""
    place = ["backbone", "dataset", "protocol"]
    for names, rows in [] if table is None else table.groupby(place, sort=False):
        if rows["first_registers"].nunique() > 1:
            backbone, dataset, protocol = names
            yield {"where": f"{backbone} on {dataset}, protocol {protocol}", "uri": sweep_curves(rows)}


def _cell(study: PublishedStudy, cell: Cell) -> dict[str, Any]:
    """Return what the page shows of one cell."""
    found = cell.figures
    if isinstance(found, str):
        return {**cell.place, "reason": found}
    stated = study.settings["figures"][cell.backbone] if cell.protocol == PUBLISHED else {}
    kinds = ("bare", "wrapped", "distributions")
    numbers = dict(zip((*kinds, "maps"), NUMBERS[cell.backbone], strict=True))
    drawn = {
        "bare": _curves(found.bare, BEFORE),
        "wrapped": _curves(found.wrapped, AFTER),
        "distributions": patches_and_registers(
            (found.wrapped.patch_norms, found.wrapped.register_norms),
            (found.wrapped.patch_attention, found.wrapped.register_attention),
        ),
    }
    return {
        **cell.place,
        "reason": "",
        "images": len(found.names),
        "numbers": numbers,
        "charts": {kind: {"uri": drawn[kind], "stated": stated.get(kind, "")} for kind in kinds},
        "last": {kind: _last(getattr(found, kind)) for kind in kinds[:2]},
        "medians": _medians(found.wrapped),
        "pictures": list(_pictures(found)),
    }


def _curves(passed: Passed, colour: str) -> str:
    return largest_by_block(passed.largest_norm, passed.largest_attention, colour)


def _last(passed: Passed) -> dict[str, float]:
    """Return the last points of both curves."""
    return {
        "norm": float(passed.largest_norm[:, -1].mean()),
        "attention": float(passed.largest_attention[:, -1].mean()),
    }


def _medians(passed: Passed) -> dict[str, str]:
    """Return the medians over tokens and images, and of the largest patch of an image."""
    arrays = {
        "patch_norm": passed.patch_norms,
        "register_norm": passed.register_norms,
        "patch_attention": passed.patch_attention,
        "largest_patch_attention": passed.largest_attention[:, -1],
        "register_attention": passed.register_attention.sum(axis=1),
    }
    return {name: f"{np.median(values):.3g}" if values.size else "–" for name, values in arrays.items()}


def _pictures(found: Figures) -> Iterator[dict[str, Any]]:
    """Yield each image with its maps at every block; those of a row share a scale a quantity."""
    for place, pixels in enumerate(found.pixels):
        name = found.names[place]
        rows = []
        for block in range(found.bare.norm_maps.shape[1]):
            row: dict[str, Any] = {"block": block}
            for quantity, colours in (("attention", ATTENTION_MAP), ("norm", NORM_MAP)):
                pair = {
                    model: getattr(passed, f"{quantity}_maps")[place, block]
                    for model, passed in (("bare", found.bare), ("wrapped", found.wrapped))
                }
                high = max(float(values.max()) for values in pair.values())
                row[quantity] = {model: map_uri(values, high, colours) for model, values in pair.items()}
                row[f"{quantity}_high"] = f"{high:.3g}"
            rows.append(row)
        yield {"name": name, "uri": png_uri(pixels), "rows": rows}
