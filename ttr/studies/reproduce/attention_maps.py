"""The attention-map study again: do attention maps point at the finding, beside GradCAM and Chefer's method?

Four initialisations of a ViT-B/16 and four medical sets: each pair is a localisation of its own
(:mod:`ttr.studies.localize.write`), with the arm ``ttr`` beside the bare model that was published. A cell
whose images or weights are not there is a row all the same, and says what is missing; so does a published
number that is not at hand. What the study states is an order of its methods, which ``order.csv`` tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, open_dataset
from ttr.errors import DataError, OptionError
from ttr.evaluate.localisation import AT_BEST
from ttr.files import MANIFEST, read_json, write_json, write_table, write_text
from ttr.run import Run
from ttr.statistics.contrasts import contrast
from ttr.statistics.verdict import judge_families
from ttr.studies.localize.localisation import CENTRE_MAP
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.localize.write import Localised, write_localisation
from ttr.studies.provenance import provenance
from ttr.studies.reproduce.attention_maps_page import attention_maps_page
from ttr.studies.reproduce.missing import attempt, reasons_by
from ttr.studies.reproduce.published import PublishedStudy, published_studies
from ttr.studies.schemas import ATTENTION_MAPS, result_folder

STUDY = "attention-maps"
#: What was published.
PUBLISHED_ARM = "plain"
#: Of ``ttr localize``, beside the study's own.
FURTHER = ("pointing_game", "iou_otsu", AT_BEST)
NAN = float("nan")
#: A published number a model, set, method and metric.
Numbers = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, eq=False)
class Cell:
    """One model on one set: its localisation, or why there is none.

    Attributes:
        model: name of the model, the study's or one in its place.
        dataset: name of the set.
        measured: the localisation, or the reason.
        made_with: its provenance, empty where there is none.
        neurons: how many were moved; 0: ttr is a blank token. None where the arm did not take part.
    """

    model: str
    dataset: str
    measured: Localised | str
    made_with: Mapping[str, Any] = field(default_factory=dict)
    neurons: int | None = None

    @property
    def folder(self) -> str:
        """Its localisation's folder."""
        return re.sub(r"[^\w.-]+", "-", f"{self.model}-{self.dataset}")


def reproduce_attention_maps(
    load: Callable[[str, str], Backbone],
    models: Sequence[str],
    sets: Mapping[str, Dataset | str],
    out: Path,
    settings: LocalisationSettings | None = None,
    run: Run | None = None,
    *,
    published: Numbers | None = None,
) -> dict[str, pd.DataFrame]:
    """Measure each model on each set and write ``out``: a localisation each, tables, a page, a manifest.

    Args:
        load: model, set -> backbone; a ModelError makes that cell a missing one.
        models: names to measure, the study's or others in their place.
        sets: {name: the set, or why it is not there}, with masks or boxes in the test split.
        out: folder to make; an earlier result is replaced.
        settings: arms, head and images; methods and boxes are the study's. None: bare and wrapped.
        run: how; None: the default. A bad image makes its cells missing, unless it is to be skipped.
        published: {(model, set, method, metric): share} as a reader types them; None: none is at hand.

    Returns:
        ``{"reproduction": ..., "order": ...}``. The former has one row a model, set, method, arm and metric:
        published (NaN: not at hand), measured, ci_low, ci_high, n, random_map, centre_map (what these maps
        score), verdict, margin, needed (of the arm against the bare model), measured_backbone, weights,
        missing. The latter, of measured cells: model, set, arm, metric, first, second, stated, difference
        (first - second on the same images), ci_low, ci_high, p, n, and
        :class:`ttr.statistics.verdict.Judged`, a family a model, set and arm.

    Raises:
        DataError: not one cell could be measured; nothing is written then.
        OptionError: the bare model is not among the arms.
        OutputError: ``out`` cannot be written.
    """
    study = published_studies()[STUDY]
    run = run or Run(seed=study.settings["seed"], batch_size=16)
    settings = settings or LocalisationSettings(arms=(PUBLISHED_ARM, "ttr"))
    if PUBLISHED_ARM not in settings.arms:
        raise OptionError(f"arms {', '.join(settings.arms)}; needed {PUBLISHED_ARM} among them, the study's")
    settings = replace(settings, methods=tuple(study.settings["methods"]), boxes=True)
    with result_folder(out) as folder:
        cells = [
            _measured(load, model, name, opened, folder, settings, run)
            for model in models
            for name, opened in sets.items()
        ]
        rows = [row for cell in cells for row in _rows(study, cell, published or {})]
        tables = {
            "reproduction": pd.DataFrame(rows),
            "order": _order(study, cells, settings.margin, run.seed),
        }
        missing = reasons(tables["reproduction"])
        measured = [cell for cell in cells if isinstance(cell.measured, Localised)]
        if not measured:
            raise DataError(f"not one cell could be measured: {'; '.join(missing)}")
        for name, table in tables.items():
            write_table(folder / f"{name}.csv", table)
        page = attention_maps_page(
            study,
            {cell.folder: (cell.made_with, cell.neurons) for cell in measured},
            tables,
            missing,
            settings.margin,
        )
        write_text(folder / "index.html", page)
        files = [*(f"{name}.csv" for name in tables), "index.html", *(cell.folder for cell in measured)]
        write_json(folder / MANIFEST, _manifest(study, cells, settings, run.seed, files))
    return tables


def open_sets(
    names: Sequence[str], roots: Mapping[str, Path], *, anonymous: bool
) -> dict[str, Dataset | str]:
    """Return the study's sets, {name: the table that describes it, opened, or why it is not there}.

    A reason becomes part of a result: it names no folder, and of an anonymous set nothing.
    """
    return {name: attempt(_opened, name, roots.get(name), anonymous) for name in names}


def reasons(table: pd.DataFrame) -> list[str]:
    """Return why cells are missing (:func:`ttr.studies.reproduce.missing.reasons_by`)."""
    return reasons_by(table, "set", "model")


def _opened(name: str, root: Path | None, anonymous: bool) -> Dataset:
    if root is None:
        raise DataError(f"no table was given for it: --roots {name}=TABLE (ttr data info csv)")
    try:
        found = open_dataset("csv", root)
    except DataError as error:
        said = str(error).replace(str(root), root.name)
        if anonymous:
            said = "the set cannot be opened; ttr data check --dataset csv --root TABLE says why"
        raise DataError(said) from None
    found = replace(found, name=name)
    return found.anonymous() if anonymous else found


def _measured(
    load: Callable[[str, str], Backbone],
    model: str,
    name: str,
    dataset: Dataset | str,
    folder: Path,
    settings: LocalisationSettings,
    run: Run,
) -> Cell:
    own = Cell(model, name, "")

    def measured(dataset: Dataset) -> Cell:
        backbone = load(model, name)
        found = write_localisation(backbone, dataset, None, folder / own.folder, settings, run)
        arms = read_json(folder / own.folder / MANIFEST)["arms"]
        moved = next((len(arm["neurons"]) for arm in arms if arm["name"] == "ttr"), None)
        return replace(own, measured=found, made_with=provenance(backbone), neurons=moved)

    found = dataset if isinstance(dataset, str) else attempt(measured, dataset)
    return replace(own, measured=found) if isinstance(found, str) else found


#: A row of nothing measured.
_EMPTY = {
    **{"measured": NAN, "ci_low": NAN, "ci_high": NAN, "n": 0, "random_map": NAN, "centre_map": NAN},
    **{"verdict": "", "margin": NAN, "needed": NAN, "measured_backbone": "", "weights": "", "missing": ""},
}


def _rows(study: PublishedStudy, cell: Cell, published: Numbers) -> Iterator[dict[str, Any]]:
    """Yield the rows of a cell, the open slots of what was published among them."""
    place = {"model": cell.model, "set": cell.dataset}
    methods, metrics = study.settings["methods"], study.settings["metrics"]
    rank = {metric: place for place, metric in enumerate((*metrics, *FURTHER))}

    def row(method: str, arm: str, metric: str) -> dict[str, Any]:
        stated = published.get((cell.model, cell.dataset, method, metric), NAN)
        own = {"method": method, "arm": arm, "metric": metric}
        return {**place, **own, "published": stated if arm == PUBLISHED_ARM else NAN, **_EMPTY}

    if isinstance(cell.measured, str):
        for method in methods:
            for metric in metrics:
                yield {**row(method, PUBLISHED_ARM, metric), "missing": cell.measured}
        return
    table = cell.measured.tables["localisation.csv"]
    centre = table[table.arm == CENTRE_MAP].set_index("metric").value
    verdicts = _against_bare(cell.measured.tables["localisation_pairs.csv"])
    made_with = cell.made_with["backbone"]
    for method in methods:
        own = table[(table.method == method) & table.metric.isin(rank)]
        arms = list(dict.fromkeys(own.arm))
        for found in sorted(own.itertuples(), key=lambda row: (arms.index(row.arm), rank[row.metric])):
            yield {
                **row(method, found.arm, found.metric),
                **{"measured": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n},
                **{"random_map": found.baseline, "centre_map": centre[found.metric]},
                **verdicts.get((method, found.arm, found.metric), {}),
                **{"measured_backbone": made_with["name"], "weights": made_with["weights"]},
            }


def _against_bare(pairs: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return what each arm's difference from the bare model came to, by method, arm and metric."""
    rows = pairs[pairs.second == PUBLISHED_ARM]
    return {
        (row["method"], row["first"], row["metric"]): {
            name: row[name] for name in ("verdict", "margin", "needed")
        }
        for row in rows.to_dict("records")
    }


def _order(study: PublishedStudy, cells: Sequence[Cell], margin: float, seed: int) -> pd.DataFrame:
    """Return the differences between methods whose order the study states."""
    rows, contrasts = [], []
    for cell in cells:
        if isinstance(cell.measured, str):
            continue
        found = cell.measured.found
        for arm in dict.fromkeys(arm for arm, _ in found.kinds):
            for first, second, stated in study.settings["order"]:
                for metric in study.settings["metrics"]:
                    terms = [(s, found.values[arm, m][metric]) for s, m in ((1.0, first), (-1.0, second))]
                    each = contrast(terms, groups=found.groups, shares=True, seed=seed)
                    place = {"model": cell.model, "set": cell.dataset, "arm": arm, "metric": metric}
                    asked = {"first": first, "second": second, "stated": stated}
                    ends = {"ci_low": each.interval.low, "ci_high": each.interval.high}
                    rows.append(
                        {**place, **asked, "difference": each.value, **ends, "p": each.p, "n": each.n}
                    )
                    contrasts.append(each)
    families = [f"{row['model']}, {row['set']}, {row['arm']}" for row in rows]
    judged = judge_families(contrasts, families, margin)
    return pd.DataFrame([row | each.columns() for row, each in zip(rows, judged, strict=True)])


def _manifest(
    study: PublishedStudy, cells: Sequence[Cell], settings: LocalisationSettings, seed: int, files: list[str]
) -> dict[str, Any]:
    return {
        "schema": ATTENTION_MAPS,
        "files": files,
        "published": {"source": study.source, "settings": study.settings, "notes": study.notes},
        "settings": {**vars(settings), "seed": seed},
        "cells": [
            {
                "model": cell.model,
                "set": cell.dataset,
                "missing": cell.measured if isinstance(cell.measured, str) else None,
                "neurons": cell.neurons,
                "provenance": cell.made_with or None,
            }
            for cell in cells
        ],
    }
