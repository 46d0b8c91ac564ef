"""The page of an integration: whether each map is faithful, and what CLS is made of.

Cosines and CKA stand as they are; accuracies and shares of attention are in per cent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ttr.datasets.registry import Dataset
from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, of, percent
from ttr.statistics.verdict import TOLD, said
from ttr.studies.integrate.by_model_section import OPEN, by_model_section
from ttr.studies.integrate.section import in_short, integration_section, maps_by_model
from ttr.wording import p_text


def page(
    tables: Mapping[str, pd.DataFrame],
    dataset: Dataset,
    made_with: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    *,
    images: int,
    skipped: Mapping[str, str],
) -> str:
    """Return the page as HTML: of the tables as they are written, and of so many test images."""
    section, by_model = integration_section(tables["integration"]), by_model_section(tables)
    return report(
        "integrate.html",
        answer=in_short(tables["integration"]),
        made_with=made_with,
        charts={"maps": maps_by_model(tables["integration"]), **section.charts, **by_model.charts},
        made=made_with,
        dataset=dataset,
        images=images,
        notes=notes,
        skipped=skipped,
        section=section.html,
        changes=_changes(tables["changes"]),
        accuracies=_accuracies(tables["accuracy"]),
        by_model=by_model.html,
    )


def _changes(table: pd.DataFrame) -> Table:
    """Return what registers change of the map's faithfulness, grouped by model."""
    return Table(
        "Faithfulness with R test-time registers minus the bare model’s, image by image. p: sign flips "
        "(10,000), Holm-corrected over a model’s rows; equivalent: within .01 of the cosine.",
        ("block, R", "difference", "verdict", "p"),
        grouped(
            table.to_dict("records"),
            lambda row: str(row["backbone"]),
            lambda row: [
                f"block {row['block']}, R = {row['num_registers']}",
                of(row, "difference", "{:+.4f}", ("ci_low", "ci_high")),
                Cell(said(row, points=False) or NOTHING, strong=row["verdict"] in TOLD),
                p_text(row["p_holm"]),
            ],
        ),
        words=("verdict",),
    )


def _accuracies(table: pd.DataFrame) -> Table:
    """Return what heads on the whole feature read in a part, grouped by model, block and R."""
    tasks = list(dict.fromkeys(table["task"]))
    rows = [
        {"place": place, "part": part, "tasks": own.set_index("task")}
        for (*place, part), own in table.groupby(["backbone", "block", "num_registers", "part"], sort=False)
    ]

    def cell(row: dict[str, Any], task: str) -> Cell:
        if task not in row["tasks"].index:
            return Cell(NOTHING)
        found = row["tasks"].loc[task]
        return percent(found.accuracy, found.ci_low, found.ci_high)

    return Table(
        "Accuracy on the test images in per cent, with 95 % intervals. One-shot: one training image a "
        "class, 100 draws. Probe: logistic regression on the whole features of the training images. full: "
        "nothing left out.",
        ("made of", *(f"{task}, %" for task in tasks)),
        grouped(
            rows,
            lambda row: "{}, block {}, R = {}".format(*row["place"]),
            lambda row: [str(row["part"]), *(cell(row, task) for task in tasks)],
        ),
        folded=len(rows) > OPEN,
    )
