"""The page of ``ttr reproduce attention-maps``: published beside measured, and the order of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ttr.drawing.charts import SERIES, SYMBOLS, axis, figure, interval, whiskers
from ttr.drawing.colours import GREY
from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, percent, points, printed
from ttr.statistics.verdict import TOLD, said
from ttr.studies.reproduce.published import PublishedStudy
from ttr.wording import counted
from ttr.wording import measured as measured_in


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
    slots = table[table.missing != ""]
    return report(
        "attention_maps.html",
        answer=answer(order),
        made_with=made_with,
        charts={"orders": orders_chart(order)},
        study=study,
        instead=in_place(study, table),
        replaced="the study’s models and sets",
        missing=missing,
        slots=_slots(slots),
        cells=[
            {"folder": folder, "neurons": neurons, **_cell(rows)}
            for (folder, (_, neurons)), (_, rows) in zip(
                measured.items(), cells.groupby(["model", "set"], sort=False), strict=True
            )
        ],
        orders=_orders(order, margin),
        counts=counted_order(order),
        typed=int(table.published.notna().sum()),
    )


def answer(order: pd.DataFrame) -> str:
    """Return in one sentence how often the stated order of two methods was found, on the bare model."""
    arm = order.arm.iloc[0]
    told = []
    for (first, second, stated), rows in order[order.arm == arm].groupby(
        ["first", "second", "stated"], sort=False
    ):
        same = int((rows.verdict == stated.split()[-1]).sum())
        told.append(
            f"{first} {stated} than {second} (stated) in {same} of {counted(len(rows), 'comparison')}"
        )
    return f"with the arm {arm}, these images show {'; '.join(told)}"


def orders_chart(order: pd.DataFrame) -> Any:
    """Draw each difference between two methods in points, with its 95 % interval, a colour an arm."""
    from plotly.graph_objects import Scatter

    traces = []
    for place, (arm, rows) in enumerate(order.groupby("arm", sort=False)):
        colour = SERIES[place % len(SERIES)]
        names = [f"{row['first']} − {row['second']}, {row['metric']}" for row in rows.to_dict("records")]
        values, low, high = ((100 * rows[name]).tolist() for name in ("difference", "ci_low", "ci_high"))
        hover = [
            f"<b>{name}</b>, {arm}<br>{row['model']} on {row['set']}: "
            f"{printed(row['difference'], '{:+.1f} points', 100)}, "
            f"{interval(100 * row['ci_low'], 100 * row['ci_high'], '{:+.1f}')}, {said(row)}"
            for name, row in zip(names, rows.to_dict("records"), strict=True)
        ]
        traces.append(
            Scatter(
                x=values,
                y=names,
                name=str(arm),
                mode="markers",
                orientation="h",
                offsetgroup=str(arm),
                marker={"color": colour, "size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)]},
                error_x=whiskers(values, low, high, colour),
                hovertext=hover,
                hoverinfo="text",
            )
        )
    count = len({(row["first"], row["second"], row["metric"]) for row in order.to_dict("records")})
    return figure(
        traces,
        height=150 + 34 * count,
        x=axis("first minus second, points", zeroline=True, zerolinecolor=GREY),
        y=axis(autorange="reversed", ticksuffix=" ", type="category"),
        scattermode="group",
    )


def _orders(order: pd.DataFrame, margin: float) -> Table:
    """Return every comparison of two methods, grouped by model, set and arm."""
    return Table(
        "First minus second on the same images, with 95 % intervals over images or patients. Verdicts by "
        "paired permutation, Holm-corrected over a model, set and arm; equivalent: within "
        f"{measured_in(100 * margin, 'point')}. The study states an order; it published no test.",
        ("first − second", "metric", "stated", "difference, points", "verdict"),
        grouped(
            order.to_dict("records"),
            lambda row: f"{row['model']} on {row['set']}, {row['arm']}",
            lambda row: [
                f"{row['first']} − {row['second']}",
                *(str(row["metric"]), str(row["stated"])),
                points(row["difference"], row["ci_low"], row["ci_high"]),
                Cell(said(row) or NOTHING, strong=row["verdict"] in TOLD),
            ],
        ),
        words=("metric", "stated", "verdict"),
        folded=True,
    )


def _slots(rows: pd.DataFrame) -> Table:
    """Return the cells of the study that nothing was measured for."""
    return Table(
        "Cells that are missing, for the reasons above",
        ("metric", "published, %", "measured"),
        grouped(
            rows.to_dict("records"),
            lambda row: f"{row['model']} on {row['set']}: {row['method']}",
            lambda row: [str(row["metric"]), percent(row["published"]), "missing"],
        ),
        folded=True,
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
            f"stated: {first} {stated} than {second}; with the arm {arm} higher in {higher} and lower in "
            f"{lower} of {counted(len(rows), 'comparison')}"
        )
    return parts


def _cell(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the page shows of a measured cell: a row a metric and method, its arms side by side."""
    first = rows.iloc[0]
    arms = list(dict.fromkeys(rows.arm))
    parts = [part for _, part in rows.groupby(["metric", "method"], sort=False)]
    table = Table(
        f"{first.model} on {first['set']}, per cent",
        ("method", "published", *arms, *(f"{arm}, verdict" for arm in arms[1:]), "random-map", "centre-map"),
        grouped(
            parts,
            lambda part: str(part.metric.iloc[0]).replace("_", " "),
            lambda part: [
                str(part.method.iloc[0]),
                percent(part.published.max()),
                *(percent(row.measured, row.ci_low, row.ci_high) for row in part.itertuples()),
                *(said(row) or NOTHING for row in part.to_dict("records")[1:]),
                percent(part.random_map.iloc[0]),
                percent(part.centre_map.iloc[0]),
            ],
        ),
        words=tuple(f"{arm}, verdict" for arm in arms[1:]),
    )
    return {
        "model": first.model,
        "set": first["set"],
        "backbone": first.measured_backbone,
        "weights": first.weights,
        "n": int(first.n),
        "table": table,
    }
