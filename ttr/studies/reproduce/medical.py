"""The medical study again: two backbones, three labelled sets, the published accuracies beside measured ones.

Each of the six cells is a benchmark of its own (:mod:`ttr.studies.bench.write`) under each protocol
(:mod:`ttr.studies.reproduce.medical_settings`): neurons found on the set's training images, the published
probe, the arms ``plain``, ``token`` (what the study calls its baseline) and ``ttr``. A published number
stands beside the published protocol alone. A cell whose images or weights are not there is a row all the
same: it keeps its published numbers, and says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, loader, open_dataset
from ttr.errors import DataError, OptionError
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.run import Run
from ttr.statistics.verdict import Judged, judge_families
from ttr.studies.bench.differences import contrast_of
from ttr.studies.bench.write import Bench
from ttr.studies.reproduce.medical_cell import ARMS, Cell, measure
from ttr.studies.reproduce.medical_figures import Figures
from ttr.studies.reproduce.medical_further import TABLES, as_table
from ttr.studies.reproduce.medical_page import medical_page
from ttr.studies.reproduce.medical_settings import PUBLISHED, MedicalSettings, under
from ttr.studies.reproduce.missing import attempt, reasons_by
from ttr.studies.reproduce.published import PublishedStudy, published_studies
from ttr.studies.schemas import MEDICAL, result_folder

STUDY = "medical"
DIFFERENCE = "ttr - token"
#: What the study computed of every head; it published the first alone.
METRICS = ("top1", "top3", "f1_macro", "precision_macro", "recall_macro", "auc_ovr")
NAN = float("nan")


def reproduce_medical(
    roots: Mapping[str, Path],
    load: Callable[[str], Backbone],
    out: Path,
    settings: MedicalSettings | None = None,
    run: Run | None = None,
    *,
    anonymous: bool = False,
) -> pd.DataFrame:
    """Measure the six cells under each protocol and write ``out``: a benchmark each, tables, a manifest.

    Args:
        roots: {dataset: its folder}; a set that is not there is a missing one.
        load: catalog name -> backbone; called once a backbone, and only if some set can be read.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default. A bad image makes its cells missing, unless it is to be skipped.
        anonymous: number the images and groups of the sets, and quote no refusal that may name one.

    Returns:
        Of each cell and protocol the published metric of plain, token, ttr, and ``ttr - token``, then
        :data:`METRICS` of the arms. Columns: protocol, dataset, backbone, arm, metric, published (NaN where
        it was not), measured, ci_low, ci_high, n, p, p_holm, verdict, measured_backbone, weights, missing
        (why there is no measured cell, else empty), reason (why a metric or its interval is NaN), and the
        rest of :class:`ttr.statistics.verdict.Judged`; the measured cells' differences are one family a
        protocol.

    Raises:
        DataError: not one cell could be measured; nothing is written then.
        OptionError: ``roots`` names a set that was not in the study, or a value is outside its range.
        OutputError: ``out`` cannot be written.
    """
    study = published_studies()[STUDY]
    check_names("roots", roots, study.named("dataset"))
    settings, run = settings or MedicalSettings(), run or Run(seed=study.settings["seed"])
    settings = replace(settings, maps=settings.shown(anonymous=anonymous))
    sets = {name: attempt(_opened, name, roots.get(name), anonymous) for name in study.named("dataset")}
    readable = any(isinstance(dataset, Dataset) for dataset in sets.values())
    cells: list[Cell] = []
    with result_folder(out) as folder:
        for name in study.named("backbone"):
            loaded = attempt(load, name) if readable else "no set to measure it on"
            for protocol in settings.protocols:
                model = loaded if isinstance(loaded, str) else attempt(under, protocol, loaded)
                for dataset, opened in sets.items():
                    place = (protocol, dataset, name)
                    if isinstance(opened, str):
                        cells.append(Cell(*place, opened))
                    elif isinstance(model, str):
                        cells.append(Cell(*place, model))
                    else:
                        cells.append(measure(study, settings, place, opened, model, folder, run))
        table = _table(study, cells)
        measured = [cell for cell in cells if isinstance(cell.measured, Bench)]
        if not measured:
            raise DataError(f"not one cell could be measured: {'; '.join(reasons(table))}")
        tables = {"reproduction": table, **_beside(measured)}
        for name, rows in tables.items():
            write_table(folder / f"{name}.csv", rows)
        page = medical_page(study, settings, measured, reasons(table), tables)
        write_text(folder / "index.html", page)
        files = [*(f"{name}.csv" for name in tables), "index.html", *(cell.folder for cell in measured)]
        write_json(folder / MANIFEST, _manifest(study, cells, settings, run.seed, files))
    return table


def check_names(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise OptionError unless all names are known ones."""
    for name in given:
        if name not in known:
            raise OptionError(f"{what} name {name!r}; the study has {', '.join(known)}")


def reasons(table: pd.DataFrame) -> list[str]:
    """Return why cells are missing (:func:`ttr.studies.reproduce.missing.reasons_by`)."""
    return reasons_by(table, "dataset", "backbone")


def _opened(name: str, root: Path | None, anonymous: bool) -> Dataset:
    """Open a set; its refusal becomes part of a result, so that no path stands in it."""
    if root is None:
        card = loader(name).card
        raise DataError(f"no root was given for it: --roots {name}=DIR. {card.how_to_get}")
    try:
        found = open_dataset(name, root)
    except DataError as error:
        if anonymous:
            said = f"the set cannot be opened; ttr data check --dataset {name} --root DIR says why"
            raise DataError(said) from None
        raise DataError(str(error).replace(str(root), root.absolute().name)) from None
    return found.anonymous() if anonymous else found


def _beside(cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    """Return the tables beside the reproduction: the figures' curves, and what goes beyond the study."""
    drawn = [(cell.place, cell.figures) for cell in cells]
    curves = [each.by_block(place) for place, each in drawn if isinstance(each, Figures)]
    found = {"by_block": pd.concat(curves)} if curves else {}
    for name in TABLES:
        pairs = [(cell.place, pair) for cell in cells for pair in cell.further.get(name, ())]
        if pairs:
            found[name] = as_table(pairs)
    return found


def _table(study: PublishedStudy, cells: Sequence[Cell]) -> pd.DataFrame:
    rows = [row for cell in cells for row in _rows(study, cell)]
    tested = [row for row in rows if row["arm"] == DIFFERENCE and not row["missing"]]
    # The rows keep the cells' order, and a measured cell has one difference.
    measured = [cell.measured for cell in cells if isinstance(cell.measured, Bench)]
    contrasts = [contrast_of(_found(bench, study.metric, DIFFERENCE)) for bench in measured]
    judged = judge_families(contrasts, [row["protocol"] for row in tested])
    for row, each in zip(tested, judged, strict=True):
        row |= each.columns()
    return pd.DataFrame(rows)


_UNTESTED = {name: value for name, value in Judged().columns().items() if name not in ("p_holm", "verdict")}
#: A row of nothing measured.
_EMPTY = {
    **{"measured": NAN, "ci_low": NAN, "ci_high": NAN, "n": 0, "p": NAN, "p_holm": NAN, "verdict": ""},
    **{"measured_backbone": "", "weights": "", "missing": "", "reason": "", **_UNTESTED},
}


def _rows(study: PublishedStudy, cell: Cell) -> Iterator[dict[str, Any]]:
    """Yield the rows of a cell: the published metric and the difference first, then the other metrics."""
    place = {"dataset": cell.dataset, "backbone": cell.backbone}
    stated = {arm: study.value(**place, arm=arm) if cell.protocol == PUBLISHED else None for arm in ARMS}
    numbers = {arm: NAN if value is None else value for arm, value in stated.items()}
    numbers[DIFFERENCE] = numbers["ttr"] - numbers["token"]
    rows = [(arm, study.metric, value) for arm, value in numbers.items()]
    rows += [(arm, metric, NAN) for metric in METRICS if metric != study.metric for arm in ARMS]
    for arm, metric, value in rows:
        row = {"protocol": cell.protocol, **place, "arm": arm, "metric": metric, "published": value, **_EMPTY}
        if isinstance(cell.measured, str):
            yield {**row, "missing": cell.measured}
            continue
        found = _found(cell.measured, metric, arm)
        row |= {name: found[name] for name in ("ci_low", "ci_high", "n")}
        if arm == DIFFERENCE:
            row |= {"measured": found.difference, "p": found.p}
        else:
            row |= {"measured": found.value, "reason": found.reason}
        made_with = cell.made_with["backbone"]
        yield {**row, "measured_backbone": made_with["name"], "weights": made_with["weights"]}


def _found(bench: Bench, metric: str, arm: str) -> pd.Series:
    """Return the row of the benchmark's tables that an arm's metric, or the difference, stands in."""
    if arm == DIFFERENCE:
        table = bench.comparisons
        chosen = (table["first"] == "ttr") & (table.second == "token")
    else:
        table = bench.results
        chosen = table.arm == arm
    return table[chosen & (table.metric == metric) & (table["head"] == "linear")].iloc[0]


def _manifest(
    study: PublishedStudy, cells: Sequence[Cell], settings: MedicalSettings, seed: int, files: list[str]
) -> dict[str, Any]:
    return {
        "schema": MEDICAL,
        "files": files,
        "published": {"source": study.source, "settings": study.settings, "notes": study.notes},
        "settings": {**asdict(settings), "num_registers": settings.registers(study), "seed": seed},
        "cells": [
            {
                "protocol": cell.protocol,
                "dataset": cell.dataset,
                "backbone": cell.backbone,
                "missing": cell.measured if isinstance(cell.measured, str) else None,
                "provenance": None if isinstance(cell.measured, str) else cell.made_with,
            }
            for cell in cells
        ],
    }
