"""The decoupling study again: is CLS made of the patches, from small models to large ones?

Each of the study's eight models, DINOv2 S to g with and without trained registers, is an integration of its
own (:mod:`ttr.studies.integrate.write`) at the last block of the bare model. A model whose weights are not
there is a row all the same: it keeps its published numbers, and says what is missing. ``index.html`` draws
the study's figures across the models that could be measured (:mod:`ttr.studies.reproduce.decoupling_page`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset
from ttr.errors import ImageError, ModelError
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.run import Run
from ttr.studies.integrate.settings import IntegrationSettings
from ttr.studies.integrate.token_tables import STRONGEST
from ttr.studies.integrate.write import BATCH, Integration, write_integration
from ttr.studies.reproduce.decoupling_page import decoupling_page
from ttr.studies.reproduce.published import PublishedStudy, published_studies
from ttr.studies.schemas import DECOUPLING, result_folder

STUDY = "decoupling"
NAN = float("nan")
#: Of the whole output, skip connection, MLP and norm with it (section 4): what faithfulness is centred from.
COSINE = "cosine, patches alone"
CKA = "CKA, {} alone"
#: Of what attention alone gives CLS, without skip connection, MLP and norm on either side (section 3).
ATTENDED_COSINE = "cosine of attention outputs, patches alone"
ATTENDED_CKA = "CKA of attention outputs, {} alone"
REGISTER = "register cosine {} the norm"


def reproduce_decoupling(
    load: Callable[[str], Backbone],
    dataset: Dataset,
    out: Path,
    run: Run | None = None,
    *,
    backbones: list[str] | None = None,
    num_images: int | None = 500,
) -> pd.DataFrame:
    """Measure the models and write the folder ``out``: an integration each, a table, a page, a manifest.

    Args:
        load: catalog name -> backbone; a ModelError makes that model a missing one.
        dataset: a labelled set; its test images are measured.
        out: folder to make; an earlier result is replaced.
        run: how; None: the default, in batches of 8 images.
        backbones: names to measure; None: the published ones.
        num_images: a sample of so many images; None: all.

    Returns:
        Columns: backbone, quantity, published, measured, ci_low, ci_high, verdict (empty: nothing is tested),
        measured_backbone, weights, images, missing (why there is no measured number, else empty).

    Raises:
        ModelError: not one model could be measured; nothing is written then.
        OutputError: ``out`` cannot be written.
    """
    entry = published_studies()[STUDY]
    names = entry.settings["backbones"] if backbones is None else backbones
    run = run or Run(seed=entry.settings["seed"], batch_size=BATCH)
    settings = IntegrationSettings(num_registers=(0,), num_images=num_images)
    rows: list[dict[str, Any]] = []
    measured: dict[str, Integration] = {}
    with result_folder(out) as folder:
        for name in names:
            weights: list[str] = []

            def loaded(given: str, weights: list[str] = weights) -> tuple[Backbone, None]:
                backbone = load(given)
                weights.append(str(backbone.weights))
                return backbone, None

            try:
                found = write_integration([name], loaded, dataset, folder / _place(name), settings, run)
            except (ModelError, ImageError) as error:
                rows += _rows(entry, name, None, "", str(error))
                continue
            rows += _rows(entry, name, found, weights[0], "")
            measured[name] = found
        table = pd.DataFrame(rows)
        if not measured:
            reasons = "; ".join(dict.fromkeys(table.missing))
            raise ModelError(f"not one model could be measured: {reasons}")
        write_table(folder / "reproduction.csv", table)
        page = decoupling_page(entry, measured, table, dataset, rehearsal=backbones is not None)
        write_text(folder / "index.html", page)
        published = {"source": entry.source, "settings": entry.settings, "notes": entry.notes}
        manifest = {
            "schema": DECOUPLING,
            "files": ["reproduction.csv", "index.html", *map(_place, measured)],
            "published": published,
            "dataset": dataset.name,
            "settings": {"num_images": num_images, "seed": run.seed},
        }
        write_json(folder / MANIFEST, manifest)
    return table


def _place(name: str) -> str:
    """Return the name of a model's folder."""
    return name.replace(":", "-").replace("/", "-")


def _rows(
    entry: PublishedStudy, name: str, found: Integration | None, weights: str, missing: str
) -> Iterator[dict[str, Any]]:
    numbers = {} if found is None else _numbers(found)
    published = {key[1]: value for key, value in entry.values.items() if key[0] == name}
    quantities = list(dict.fromkeys([*numbers, *published])) or [COSINE]
    for quantity in quantities:
        value, low, high = numbers.get(quantity, (NAN, NAN, NAN))
        yield {
            "backbone": name,
            "quantity": quantity,
            "published": published.get(quantity, NAN),
            "measured": value,
            "ci_low": low,
            "ci_high": high,
            "verdict": "",
            "measured_backbone": "" if found is None else name,
            "weights": weights,
            "images": 0 if found is None else int(found.tables["integration"].images.iloc[0]),
            "missing": missing,
        }


def _numbers(found: Integration) -> dict[str, tuple[float, float, float]]:
    """Return what the study shows of a model, {quantity: (value, low, high)}."""
    rows = found.tables["integration"].set_index("part")
    patches = rows.loc["patches"]
    around = (patches.attended_cosine_low, patches.attended_cosine_high)
    numbers = {
        COSINE: (patches.cosine, patches.cosine_low, patches.cosine_high),
        ATTENDED_COSINE: (patches.attended_cosine, *around),
    }
    for part, row in rows.iterrows():
        numbers[CKA.format(part)] = (row.cka, row.ci_low, row.ci_high)
        if part != "skip":
            ends = (row.attended_cka_low, row.attended_cka_high)
            numbers[ATTENDED_CKA.format(part)] = (row.attended_cka, *ends)
    registers = found.tables["registers"]
    for row in registers[registers.token == STRONGEST].itertuples():
        numbers[REGISTER.format(row.when)] = (row.cosine, row.ci_low, row.ci_high)
    return numbers
