"""The page of ``ttr reproduce decoupling``: the study's figures across the models, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ttr.datasets.registry import Dataset
from ttr.drawing.html import fill
from ttr.studies.integrate.by_model_section import by_model_section
from ttr.studies.integrate.write import Integration
from ttr.studies.provenance import phantom_warnings, together
from ttr.studies.reproduce.published import PublishedStudy
from ttr.wording import counted


def decoupling_page(
    study: PublishedStudy,
    found: Mapping[str, Integration],
    table: pd.DataFrame,
    dataset: Dataset,
    *,
    rehearsal: bool,
) -> str:
    """Return the page.

    Args:
        study: the published numbers.
        found: {name of a model: what was measured of it}, at least one.
        table: as in ``reproduction.csv``; a number that was published stands in the row of the same quantity.
        dataset: what was measured on.
        rehearsal: other models than the published ones were measured.
    """
    from markupsafe import Markup

    first = next(iter(found.values()))
    tables = {
        name: pd.concat([each.tables[name].assign(backbone=backbone) for backbone, each in found.items()])
        for name in first.tables
    }
    made_with = [made for each in found.values() for made in each.made_with]
    skipped = {image: why for each in found.values() for image, why in each.skipped.items()}
    missing = table[table.missing != ""].drop_duplicates("backbone")
    return fill(
        "decoupling.html",
        study=study,
        dataset=dataset,
        images=first.images,
        counted=counted,
        models=list(found),
        instead=", ".join(found) if rehearsal else "",
        missing=list(missing.itertuples()),
        skipped=skipped,
        warnings=phantom_warnings(made_with),
        section=Markup(by_model_section(tables)),
        rows=list(table.itertuples()),
        provenance=together(made_with),
    )
