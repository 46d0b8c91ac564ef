"""The figures of how many registers: top-1 against R, with the registers moved and with blank tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ttr.drawing.charts import axis, curve, figure
from ttr.drawing.colours import GREY
from ttr.drawing.maps import AFTER, BEFORE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SIDES = (
    ("second", BEFORE, "blank tokens (R = 0: bare)"),
    ("first", AFTER, "registers moved (R = 0: zeroed)"),
)


def sweep_curves(rows: pd.DataFrame) -> dict[str, Figure]:
    """Draw one cell's top-1 of both heads in per cent, and their difference in points, against R.

    Args:
        rows: of one set, backbone and protocol in the table ``sweep`` of
            :func:`ttr.studies.reproduce.medical_further.as_table`. At R = 0 the neurons are zeroed, and the
            other head is the bare model's. Shaded: 95 % intervals, none where there is none.

    Returns:
        ``values`` and ``difference``.
    """
    rows = rows.sort_values("first_registers")
    registers = rows["first_registers"].tolist()
    traces: list[Any] = []
    for place, (side, colour, label) in enumerate(SIDES):
        value, low, high = (_scaled(rows, f"{side}_{end}") for end in ("value", "low", "high"))
        style: dict[str, Any] = {"along": "R =", "quantity": "top-1", "pattern": "{:.1f} %", "colour": colour}
        traces += curve(registers, value, label, place, ends=(low, high), **style)
    change, low, high = (_scaled(rows, name) for name in ("difference", "ci_low", "ci_high"))
    style = {"along": "R =", "pattern": "{:+.1f} points", "colour": AFTER, "showlegend": False}
    moved = curve(registers, change, "difference", 0, ends=(low, high), **style)
    below = axis("R (test-time registers)", tickvals=registers)
    shown = figure(moved, height=360, x=below, y=axis("difference of top-1, points"))
    shown.add_hline(0, line={"color": GREY, "dash": "dot", "width": 1})
    return {
        "values": figure(traces, height=360, x=below, y=axis("top-1, %", range=[0, 100])),
        "difference": shown,
    }


def _scaled(rows: pd.DataFrame, name: str) -> list[float]:
    return (100 * rows[name].astype(float)).tolist()
