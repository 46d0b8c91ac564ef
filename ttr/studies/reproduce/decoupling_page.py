"""The page of ``ttr reproduce decoupling``: the study's figures across the models, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ttr.datasets.registry import Dataset
from ttr.drawing.report import report
from ttr.drawing.tables import Table, grouped, number, of
from ttr.studies.integrate.by_model_section import by_model_section
from ttr.studies.integrate.section import in_short, maps_by_model
from ttr.studies.integrate.write import Integration
from ttr.studies.reproduce.published import PublishedStudy


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
    first = next(iter(found.values()))
    tables = {
        name: pd.concat([each.tables[name].assign(backbone=backbone) for backbone, each in found.items()])
        for name in first.tables
    }
    skipped = {image: why for each in found.values() for image, why in each.skipped.items()}
    missing = table[table.missing != ""].drop_duplicates("backbone")
    section = by_model_section(tables)
    return report(
        "decoupling.html",
        answer=in_short(tables["integration"]),
        made_with=[made for each in found.values() for made in each.made_with],
        charts={"maps": maps_by_model(tables["integration"]), **section.charts},
        study=study,
        dataset=dataset,
        images=first.images,
        models=len(found),
        instead=", ".join(found) if rehearsal else "",
        replaced="the published models",
        missing=[f"{row.backbone}: {row.missing}" for row in missing.itertuples()],
        skipped=skipped,
        section=section.html,
        beside=_beside(table, study.metric),
    )


def _beside(table: pd.DataFrame, metric: str) -> Table:
    """Return published beside measured numbers, grouped by model."""
    return Table(
        f"{metric}, with 95 % intervals over images. A published number stands beside the same quantity "
        "alone; all others of the study are in figures without numbers.",
        ("quantity", "published", "measured"),
        grouped(
            table.to_dict("records"),
            lambda row: str(row["backbone"]),
            lambda row: [
                str(row["quantity"]),
                number(row["published"], "{:.4f}"),
                "missing" if row["missing"] else of(row, "measured", "{:.4f}", ("ci_low", "ci_high")),
            ],
        ),
    )
