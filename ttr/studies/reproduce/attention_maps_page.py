"""The page of ``ttr reproduce attention-maps``: published beside measured, and the order of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ttr.drawing.html import fill
from ttr.statistics.verdict import said
from ttr.studies.provenance import phantom_warnings, together
from ttr.studies.reproduce.published import PublishedStudy
from ttr.wording import counted


def attention_maps_page(
    study: PublishedStudy,
    measured: Mapping[str, tuple[Mapping[str, Any], int | None]],
    tables: Mapping[str, pd.DataFrame],
    missing: Sequence[str],
    margin: float,
) -> str:
    """Return the page.

    Args:
        study: what was published.
        measured: {folder of a localisation beside the page: (its provenance, how many neurons were moved,
            None without the arm ttr)}, at least one.
        tables: ``reproduction`` and ``order``, as they are written.
        missing: what is missing, a sentence each.
        margin: of equivalence, a share.
    """
    table, order = tables["reproduction"], tables["order"]
    made_with = [dict(each) for each, _ in measured.values()]
    cells = table[table.missing == ""]
    return fill(
        "attention_maps.html",
        study=study,
        instead=in_place(study, table),
        warnings=phantom_warnings(made_with),
        missing=missing,
        slots=table[table.missing != ""].to_dict("records"),
        cells=[
            {"folder": folder, "neurons": neurons, **_cell(rows)}
            for (folder, (_, neurons)), (_, rows) in zip(
                measured.items(), cells.groupby(["model", "set"], sort=False), strict=True
            )
        ],
        counted=counted,
        orders=[_judged(row) for row in order.to_dict("records")],
        counts=counted_order(order),
        typed=int(table.published.notna().sum()),
        margin=margin,
        provenance=together(made_with),
    )


def in_place(study: PublishedStudy, table: pd.DataFrame) -> str:
    """Return which models and sets of a table stand in the study's place, in words; empty: none."""
    found = [
        each
        for column, known in (("model", study.settings["models"]), ("set", study.settings["sets"]))
        for each in dict.fromkeys(table[column])
        if each not in known
    ]
    return ", ".join(found)


def counted_order(order: pd.DataFrame) -> list[str]:
    """Say of each stated order in how many comparisons it was found and in how many the contrary, by arm."""
    parts = []
    for (first, second, stated, arm), rows in order.groupby(["first", "second", "stated", "arm"], sort=False):
        higher, lower = ((rows.verdict == word).sum() for word in ("higher", "lower"))
        parts.append(
            f"{first} against {second}, {arm}: stated {stated}; of {len(rows)} comparisons higher in "
            f"{higher}, lower in {lower}"
        )
    return parts


def _cell(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the page shows of a measured cell: a row a metric and method, its arms side by side."""
    first = rows.iloc[0]
    return {
        "model": first.model,
        "set": first["set"],
        "backbone": first.measured_backbone,
        "weights": first.weights,
        "n": int(first.n),
        "arms": list(dict.fromkeys(rows.arm)),
        "rows": [
            {
                **part.iloc[0].to_dict(),
                "published": part.published.max(),
                "arms": [_judged(row) for row in part.to_dict("records")],
            }
            for _, part in rows.groupby(["metric", "method"], sort=False)
        ],
    }


def _judged(row: Mapping[Any, Any]) -> dict[Any, Any]:
    return {**row, "said": said(row)}
