"""The figures of Lappe and Giese (2025) as a section of a page, for any number of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ttr.drawing.report import Fragment, fragment
from ttr.drawing.tables import Cell, Table, grouped, number, of, percent
from ttr.studies.integrate.by_model import (
    at_last,
    dimensions_by_model,
    parts_by_model,
    shares_by_model,
)
from ttr.studies.integrate.charts import cls_path
from ttr.studies.integrate.oneshot_table import ATTENTION, OUTPUT

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Rows of a table that stand open.
OPEN = 20
#: What one-shot accuracies are drawn of.
PARTS = {ATTENTION: ["full", "patches", "registers"], OUTPUT: ["full", "patches", "registers", "skip"]}


def by_model_section(tables: Mapping[str, pd.DataFrame]) -> Fragment:
    """Return a part of a report, with headings from ``h2`` on, and its charts.

    Args:
        tables: ``integration``, ``oneshot``, ``layers``, ``registers``, ``dimensions`` and ``shares`` of
            :mod:`ttr.studies.integrate.tables` and :mod:`ttr.studies.integrate.token_tables`.
    """
    order = tables["integration"].sort_values("parameters", kind="stable").backbone.drop_duplicates().tolist()
    last, oneshot = (at_last(tables[name], order) for name in ("integration", "oneshot"))
    with_registers = last.groupby(["backbone", "num_registers"]).part.transform(
        lambda p: "registers" in set(p)
    )
    shares, bare = tables["shares"], last[~with_registers.astype(bool)]
    top = int(oneshot.top[oneshot.accuracy.notna() | (oneshot.top == oneshot.top.min())].max())
    ends = {name: (name, f"{name}_low", f"{name}_high") for name in ("attended_cka", "norm")}
    published = ["patches", "registers"]
    dimensions = dimensions_by_model(tables["dimensions"], order)
    charts = {
        "shares": shares_by_model(at_last(shares, order), order) if len(shares) else None,
        **dimensions,
        "attended": parts_by_model(
            last[with_registers.astype(bool)],
            published,
            ends["attended_cka"],
            "CKA of attention outputs",
            quantity="CKA",
        ),
        **{
            f"oneshot-{what}": _oneshot(oneshot[(oneshot.of == what) & (oneshot.top == top)], what, top)
            for what in PARTS
        },
        "norms": parts_by_model(
            last, ["patches", "skip"], ends["norm"], "length of the contribution to CLS", quantity="length"
        ),
        "path": cls_path(tables["layers"]),
        "output": parts_by_model(
            bare,
            ["patches", "skip"],
            ("cka", "ci_low", "ci_high"),
            "CKA with the model’s output",
            quantity="CKA",
        ),
    }
    return fragment(
        "integration_by_model.html",
        charts,
        without_registers=[name for name in order if name not in set(shares.backbone)],
        dimensions=list(dimensions),
        top=top,
        cannot_fail=sorted(set(oneshot.missing) - {""}),
        oneshots=_oneshots(oneshot),
        registers=_registers(tables["registers"]),
    )


def _oneshot(rows: pd.DataFrame, what: str, top: int) -> Figure | None:
    shown = rows.assign(**{name: 100 * rows[name] for name in ("accuracy", "ci_low", "ci_high", "chance")})
    columns, label = ("accuracy", "ci_low", "ci_high"), f"one-shot top-{top} accuracy, {what}, %"
    style: dict[str, Any] = {"quantity": f"top-{top} accuracy", "pattern": "{:.1f} %", "chance": True}
    return parts_by_model(shown, PARTS[what], columns, label, **style)


def _oneshots(table: pd.DataFrame) -> Table:
    """Return the one-shot accuracies, grouped by model and by what is classified."""
    return Table(
        "Per cent: mean of the draws, with its 95 % interval over test images, and within which 95 % of "
        "single draws lie.",
        ("made of, top", "accuracy, %", "single draws, %", "chance, %", "classes"),
        grouped(
            table.to_dict("records"),
            lambda row: f"{row['backbone']}, R = {row['num_registers']}, of the {row['of']}",
            lambda row: [
                f"{row['part']}, top-{row['top']}",
                Cell("–", why=row["missing"])
                if row["missing"]
                else percent(row["accuracy"], row["ci_low"], row["ci_high"]),
                "–" if row["missing"] else f"{100 * row['draws_low']:.1f} to {100 * row['draws_high']:.1f}",
                percent(row["chance"]),
                str(row["classes"]),
            ],
        ),
        folded=True,
    )


def _registers(table: pd.DataFrame) -> Table:
    """Return how like the strongest tokens of two images are, grouped by model and block."""
    return Table(
        "Mean cosine over pairs of images, at the input of a block, before and after its norm, with 95 % "
        "intervals. Outlier dimensions: mean |value| above ten times the median dimension’s; share: of "
        "the squared length. Strongest in: images in which that token has the largest norm of its kind.",
        ("token, norm", "cosine", "outlier dimensions", "their share, %", "strongest in, %"),
        grouped(
            table.to_dict("records"),
            lambda row: f"{row['backbone']}, block {row['block']}, R = {row['num_registers']}",
            lambda row: [
                f"{row['token']}, {row['when']}",
                of(row, "cosine", "{:.3f}", ("ci_low", "ci_high")),
                _dimensions(row),
                percent(row["outlier_share"]),
                number(row["strongest_in"], "{:.0f}", scale=100),
            ],
        ),
        words=("outlier dimensions",),
        folded=len(table) > OPEN,
    )


def _dimensions(row: Mapping[str, Any]) -> str:
    named = row["named"]
    if not isinstance(named, str) or not named:
        return str(row["outlier_dimensions"])
    return f"{row['outlier_dimensions']} ({named}{' …' if row['outlier_dimensions'] > 10 else ''})"
