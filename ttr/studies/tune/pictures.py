"""Figures of a tuning: outliers against neurons, and what more registers change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ttr.drawing.charts import axis, curve, figure
from ttr.drawing.colours import GREY
from ttr.drawing.maps import AFTER, BEFORE
from ttr.studies.tune.tuning import SweepRow

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Between two ticks of a logarithmic axis.
FARTHER = 1.25
DOTTED = {"line": {"color": GREY, "dash": "dot", "width": 1.5}, "annotation_text": "bare model"}


def neuron_curves(rows: Sequence[SweepRow]) -> dict[str, Figure]:
    """Draw outlier share, in per cent, and largest patch norm against top_k, a line for each top layer.

    Shaded: 95 % interval. Dotted: the bare model.
    """
    bare, swept = rows[0], [row for row in rows if row.sweep == "neurons"]
    shares: list[Any] = []
    norms: list[Any] = []
    for place, block in enumerate(sorted({row.top_layer or 0 for row in swept})):
        line = [row for row in swept if row.top_layer == block]
        k, name = [row.top_k for row in line], f"blocks 0..{block}"
        values, low, high = (_percent(line, "outlier_share", end) for end in ("", "_low", "_high"))
        style: dict[str, Any] = {"along": "top_k"}
        said: dict[str, Any] = {"quantity": "outlier patches", "pattern": "{:.2f} %"}
        shares += curve(k, values, name, place, ends=(low, high), **said, **style)
        largest = [row.max_patch_norm for row in line]
        said = {"quantity": "largest patch norm", "pattern": "{:.1f}"}
        norms += curve(k, largest, name, place, **said, **style)
    shown = _apart(sorted({row.top_k for row in swept if row.top_k}))
    drawn = {}
    for name, traces, label, level in (
        ("neurons-shares", shares, "outlier patches, %", 100 * bare.outlier_share),
        ("neurons-norms", norms, "largest patch norm", bare.max_patch_norm),
    ):
        below = axis("top_k (neurons moved)", type="log", tickvals=shown)
        drawn[name] = figure(traces, height=360, x=below, y=axis(label, rangemode="tozero"))
        drawn[name].add_hline(level, **DOTTED)
    return drawn


def register_curves(rows: Sequence[SweepRow]) -> dict[str, Figure]:
    """Draw the cosine with R = 1, and the remaining outliers and the registers' attention, against R."""
    registers = [row.num_registers for row in rows]
    cosine, low, high = (
        [_number(getattr(row, f"cosine{end}")) for row in rows] for end in ("", "_low", "_high")
    )
    values, least, most = (_percent(rows, "outlier_share", end) for end in ("", "_low", "_high"))
    style: dict[str, Any] = {"along": "R =", "colour": AFTER}
    likeness = curve(
        registers, cosine, "cosine", 0, ends=(low, high), pattern="{:.4f}", showlegend=False, **style
    )
    shares = curve(registers, values, "outlier patches", 0, ends=(least, most), pattern="{:.2f} %", **style)
    if all(row.register_attention is not None for row in rows):
        attention = [100 * _number(row.register_attention) for row in rows]
        name = "CLS attention held by registers"
        shares += curve(registers, attention, name, 1, along="R =", pattern="{:.1f} %", colour=BEFORE)
    below = axis("R (test-time registers)", tickvals=registers)
    return {
        "registers-cosine": figure(
            likeness, height=340, x=below, y=axis("cosine of the embedding with R = 1")
        ),
        "registers-shares": figure(shares, height=340, x=below, y=axis("share, %", rangemode="tozero")),
    }


def _apart(numbers: Sequence[int]) -> list[int]:
    """Return numbers that have room beside each other on a logarithmic axis, the least first."""
    kept: list[int] = []
    for number in numbers:
        if not kept or number >= FARTHER * kept[-1]:
            kept.append(number)
    return kept


def _percent(rows: Sequence[SweepRow], name: str, end: str) -> list[float]:
    return [100 * _number(getattr(row, name + end)) for row in rows]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
