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
    measured: Mapping[str, Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
    missing: Sequence[str],
    margin: float,
) -> str:
    """Return the page.

    Args:
        study: what was published.
        measured: {folder of a localisation beside the page: its provenance}, at least one.
        tables: ``reproduction`` and ``order``, as they are written.
        missing: what is missing, a sentence each.
        margin: of equivalence, a share.
    """
    table, order = tables["reproduction"], tables["order"]
    made_with = [dict(each) for each in measured.values()]
    cells = table[table.missing == ""]
    return fill(
        "attention_maps.html",
        study=study,
        instead=in_place(study, table),
        warnings=phantom_warnings(made_with),
        missing=missing,
        metrics=list(dict.fromkeys(table.metric)),
        slots=table[is_slot(study, table)].to_dict("records"),
        cells=[
            _cell(folder, rows)
            for folder, (_, rows) in zip(measured, cells.groupby(["model", "set"], sort=False), strict=True)
        ],
        nan=float("nan"),
        counted=counted,
        orders=[{**row, "said": said(row)} for row in order.to_dict("records")],
        counts=counted_order(order),
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


def is_slot(study: PublishedStudy, table: pd.DataFrame) -> pd.Series:
    """Return which rows have a place for a published number: the study's metrics of the bare model."""
    return (table.arm == "plain") & table.metric.isin(study.settings["metrics"])


def _cell(folder: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the page shows of a measured cell."""
    maps = [
        {"method": method, "arm": arm, "metrics": {row["metric"]: _judged(row) for row in own}}
        for (method, arm), own in (
            (kind, part.to_dict("records")) for kind, part in rows.groupby(["method", "arm"], sort=False)
        )
    ]
    baselines = {
        name: dict(zip(rows.metric, rows[column], strict=True))
        for name, column in (("random-map", "random_map"), ("centre-map", "centre_map"))
    }
    return {
        "folder": folder,
        "model": rows.model.iloc[0],
        "set": rows["set"].iloc[0],
        "backbone": rows.measured_backbone.iloc[0],
        "weights": rows.weights.iloc[0],
        "n": int(rows.n.iloc[0]),
        "maps": maps,
        "baselines": baselines,
    }


def _judged(row: Mapping[Any, Any]) -> dict[Any, Any]:
    return {**row, "said": said(row)}
