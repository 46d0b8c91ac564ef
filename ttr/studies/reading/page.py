"""The page of a reader study: one sentence, the figures, then tables of what was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ttr.drawing.report import report
from ttr.drawing.tables import Cell, Table, grouped, number, percent, points
from ttr.statistics.verdict import TOLD, said
from ttr.studies.reading.chart import by_condition
from ttr.studies.reading.folder import Study
from ttr.wording import counted, p_text

NAMES = {"auc": "area under the curve", "log_seconds": "reading time"}
CHANGED = (
    "First minus second, in points; of times, their ratio. None: without a map; before: the bare model's; "
    "after: with test-time registers; perturbed: a map that is not the image's. Readers and images are both "
    "taken as drawn at random (Dorfman, Berbaum and Metz; degrees of freedom by Hillis). p: corrected (Holm)"
)
PREFERRED = (
    "Pairs shown side by side as A and B. Difference: share for the map after less share for the map before, "
    "in points. All: over readers and images; each reader: the exact binomial test of the decided pairs"
)
ORDERED = (
    "Preferences in points; drift from the beginning to the end of a session, of times as a ratio, of these "
    "readers"
)
AGREED = (
    "Krippendorff's alpha of the answers: 1 for always, 0 as chance would have it; intervals over images. "
    "Agreed: share of the pairs of answers to an image that are the same. Read twice: by one reader"
)


def render(
    study: Study,
    tables: Mapping[str, pd.DataFrame],
    answer: str,
    notes: Sequence[str],
    simulated: Sequence[str] | None,
) -> str:
    """Return the page; ``tables`` by the names of their files, ``simulated``: biases of simulated readers."""
    rows = {name.removesuffix(".csv"): table.to_dict("records") for name, table in tables.items()}
    charts = by_condition(tables["conditions.csv"])
    return report(
        "readers.html",
        answer=answer,
        made_with=study.provenance,
        charts=charts,
        curves=list(charts),
        settings=study.settings,
        cases=len(study.key.cases),
        notes=notes,
        simulated=simulated,
        changed=_judged(rows["differences"], "metric", ("first", "second"), CHANGED),
        preferred=_judged(rows["preference"], "", ("reader", "after", "before", "neither"), PREFERRED),
        ordered=_judged(rows["order"], "", ("question",), f"All readers. {ORDERED}"),
        readers=_judged(
            rows["by_reader"], "question", ("reader",), f"Each reader alone, Holm over readers. {ORDERED}"
        ),
        caught=_caught(rows["catch"]),
        agreed=_agreed(rows["agreement"]),
        counted=counted,
    )


def _judged(rows: Sequence[dict[str, Any]], group: str, names: Sequence[str], caption: str) -> Table:
    """Return a row a difference, grouped by a column where one is named."""
    columns = (*names, "difference", "p", "verdict")
    groups = grouped(
        rows,
        lambda row: _called(row[group]) if group else "",
        lambda row: [
            *(_called(row[name]) for name in names),
            _change(row),
            p_text(row["p_holm"]),
            Cell(said(row), strong=row["verdict"] in TOLD),
        ],
    )
    return Table(caption, columns, groups, words=("verdict",))


def _called(name: Any) -> str:
    text = str(name)
    for metric, words in NAMES.items():
        text = text.replace(metric, words)
    return text


def _change(row: Mapping[str, Any]) -> Cell:
    """Return a change in points; of logarithms of times, the ratio."""
    value, low, high = (float(row[name]) for name in ("difference", "ci_low", "ci_high"))
    if str(row.get("metric", row.get("question", ""))).endswith("log_seconds"):
        return number(math.exp(value), "× {:.2f}", math.exp(low), math.exp(high))
    return points(value, low, high)


def _caught(rows: Sequence[dict[str, Any]]) -> Table:
    caption = "Maps that are not their images': how many each reader trusted little (2 of 5 or less)"
    cells = [
        [
            row["reader"],
            str(row["trials"]),
            str(row["passed"]),
            percent(row["share"], row["ci_low"], row["ci_high"]),
        ]
        for row in rows
    ]
    return Table(caption, ("reader", "shown", "passed", "share, %"), [("", cells)])


def _agreed(rows: Sequence[dict[str, Any]]) -> Table:
    columns = ("condition", "alpha", "agreed, %", "images", "p")
    groups = grouped(
        rows,
        lambda row: row["who"],
        lambda row: [
            row["condition"],
            number(row["alpha"], "{:.2f}", row["ci_low"], row["ci_high"]),
            percent(row["agreed"], pattern="{:.0f}"),
            str(row["cases"]),
            p_text(row["p"]),
        ],
    )
    return Table(AGREED, columns, groups)
