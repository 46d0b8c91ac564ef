"""What every interactive figure shares: a palette that colour-blind people can tell apart, a quiet layout.

Backgrounds are transparent and ink is left to the page, so that a figure stands on light and on dark alike.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttr.drawing.colours import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILLION
from ttr.drawing.tables import printed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

SERIES = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, GREY)
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "x", "star")
#: Of each substitute, in every figure that shows conditions.
SUBSTITUTE_COLOURS = {
    "zero": VERMILLION,
    "mean": BLUE,
    "noise": GREEN,
    "shuffle": PINK,
    "resample": SKY,
    "": GREY,
}
#: Losses are vermillion, gains blue, nothing is white.
CHANGE_MAP = [[0, "#A63C00"], [0.25, "#E8935A"], [0.5, "#F7F7F7"], [0.75, "#6FA8D6"], [1, "#00497A"]]
VALUE_MAP = "Cividis"
#: A logarithmic axis that reaches further has a tick a decade.
LOG_STEPS = 200

LAYOUT: dict[str, Any] = {
    "template": "none",
    "margin": {"l": 56, "r": 12, "t": 28, "b": 48},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 12},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
    "hoverlabel": {"align": "left"},
}
AXIS: dict[str, Any] = {"gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "automargin": True}


def figure(
    traces: Sequence[Any],
    *,
    height: int = 380,
    x: dict[str, Any] | None = None,
    y: dict[str, Any] | None = None,
    **layout: Any,
) -> Figure:
    """Return a figure of some traces on the shared layout.

    Args:
        traces: of plotly.
        height: px.
        x: what :func:`axis` says of the axis below; None: nothing of its own.
        y: of the axis at the left.
        layout: of plotly; a part of the shared layout's parts stays where it is not named.
    """
    from plotly.graph_objects import Figure

    # Given at once: plotly checks a whole layout ten times as fast as its parts one after another.
    whole = {**LAYOUT, "height": height, "xaxis": x or axis(), "yaxis": y or axis()}
    for name, value in layout.items():
        shared = whole.get(name)
        whole[name] = {**shared, **value} if isinstance(shared, dict) else value
    return Figure(list(traces), layout=whole)


def axis(title: str | None = None, **options: Any) -> dict[str, Any]:
    """Return an axis on the shared layout, with a title and whatever else plotly knows of one."""
    named = {"standoff": 8} if title is None else {"standoff": 8, "text": title}
    return {**AXIS, "title": named, **options}


def log_axis(title: str, values: Sequence[float], **options: Any) -> dict[str, Any]:
    """Return a logarithmic axis of values above zero, each tick written out; without one, a plain axis."""
    known = [float(value) for value in values if value > 0 and math.isfinite(value)]
    if not known:
        return axis(title, **options)
    low, high = min(known), max(known)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < LOG_STEPS * low else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    shown = [tick for tick in ticks if low / 2 <= tick <= 2 * high]
    written = [f"{tick:.12f}".rstrip("0").rstrip(".") if tick < 1 else f"{tick:,.0f}" for tick in shown]
    return axis(title, type="log", tickvals=shown, ticktext=written, **options)


def plain(name: str) -> str:
    """Return a name as plotly shows it letter by letter: of ``<b>`` and the like it would take orders."""
    return html.escape(str(name), quote=False)


def quiet(shown: Figure, *, height: int, **layout: Any) -> Figure:
    """Return a figure of several plots, its parts laid out already, on the shared layout."""
    shown.update_layout(**LAYOUT, height=height)
    shown.update_layout(**layout)
    shown.update_xaxes(**axis())
    shown.update_yaxes(**axis())
    return shown


@dataclass(frozen=True)
class Grid:
    """A table of cells, [rows][columns]; a cell is anything, or None where there is nothing.

    Attributes:
        columns: names, above the cells.
        rows: names.
        cells: the cells.
        value: cell -> the number that gives its colour.
        text: cell -> what is printed in it.
        hover: cell -> what it says to the pointer.
        nothing: what the pointer is told where there is no cell.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[Any]]
    value: Callable[[Any], float]
    text: Callable[[Any], str]
    hover: Callable[[Any], str]
    nothing: str = "not there"

    def each(self, function: Callable[[Any], Any], nothing: Any) -> list[list[Any]]:
        """Return what a function says of each cell, and ``nothing`` where there is none."""
        return [[nothing if cell is None else function(cell) for cell in row] for row in self.cells]


def heatmap(
    grid: Grid,
    *,
    unit: str,
    span: tuple[float, float],
    height: int,
    colours: Any = VALUE_MAP,
    gap: int = 3,
    top: int = 36,
) -> Figure:
    """Draw a table as coloured cells with their numbers, the first row on top; the hover says the rest.

    Args:
        grid: the table.
        unit: over the colour bar.
        span: values of the first and the last colour.
        height: of the figure, px.
        colours: a plotly colour scale.
        gap: between cells, px.
        top: room for the columns' names, px.
    """
    from plotly.graph_objects import Heatmap

    trace = Heatmap(
        x=[plain(name) for name in grid.columns],
        y=[plain(name) for name in grid.rows],
        z=grid.each(grid.value, None),
        text=grid.each(grid.text, "–"),
        texttemplate="%{text}",
        hovertext=grid.each(grid.hover, grid.nothing),
        hoverinfo="text",
        zmin=span[0],
        zmax=span[1],
        colorscale=colours,
        xgap=gap,
        ygap=gap,
        colorbar={"title": {"text": unit}, "thickness": 12, "outlinewidth": 0},
    )
    return figure(
        [trace],
        height=height,
        x=axis(side="top", showgrid=False, ticks=""),
        y=axis(autorange="reversed", showgrid=False, ticks="", ticksuffix=" "),
        margin={"l": 8, "r": 8, "t": top, "b": 8},
    )


def line(x: Sequence[Any], y: Sequence[float], name: str, place: int, **options: Any) -> Scatter:
    """Return a line with markers whose colour and shape belong to its ``place`` among the lines."""
    from plotly.graph_objects import Scatter

    colour = options.pop("colour", SERIES[place % len(SERIES)])
    return Scatter(
        x=list(x),
        y=list(y),
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": options.pop("dash", "solid")},
        marker={"color": colour, "size": 7, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        hoverinfo="text",
        **options,
    )


def band(
    x: Sequence[Any], low: Sequence[float], high: Sequence[float], colour: str, **options: Any
) -> Scatter:
    """Return the shaded interval of a line."""
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=rgba(colour, 0.12),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        **options,
    )


def rgba(colour: str, opacity: float) -> str:
    """Return ``#rrggbb`` with an opacity, as CSS writes it."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def curve(
    x: Sequence[Any],
    y: Sequence[float],
    name: str,
    place: int,
    *,
    ends: tuple[Sequence[float], Sequence[float]] | None = None,
    along: str = "block",
    quantity: str = "",
    pattern: str = "{:.3f}",
    **options: Any,
) -> list[Scatter]:
    """Return a line and, where it has ``ends``, its shaded 95 % interval; the hover says both in numbers.

    ``quantity`` is what the numbers are, where the line's name does not say it; ``pattern`` writes their
    unit.
    """
    low, high = ends or ([float("nan")] * len(y), [float("nan")] * len(y))
    rows = list(zip(x, y, low, high, strict=True))
    known = [(at, a, b) for at, _, a, b in rows if a == a and b == b]
    colour = options.get("colour", SERIES[place % len(SERIES)])
    shaded = []
    if known:
        places, least, most = (list(each) for each in zip(*known, strict=True))
        shaded.append(band(places, least, most, colour, legendgroup=name))
    hover = [
        f"<b>{name}</b>, {along} {at}<br>{quantity}{' ' if quantity else ''}{printed(value, pattern)}"
        + (f", {interval(a, b, pattern)}" if ends else "")
        for at, value, a, b in rows
    ]
    return [*shaded, line(x, y, name, place, hovertext=hover, legendgroup=name, **options)]


def whiskers(
    values: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str
) -> dict[str, Any]:
    """Return plotly’s error bars from ``low`` to ``high``; none where there is no interval."""

    def away(end: Sequence[float], sign: int) -> list[float]:
        return [max(0.0, sign * (b - a)) if b == b else 0.0 for a, b in zip(values, end, strict=True)]

    return {
        "type": "data",
        "symmetric": False,
        "array": away(high, 1),
        "arrayminus": away(low, -1),
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def interval(low: float, high: float, pattern: str = "{:.3f}") -> str:
    """Return ``[low, high]``, or words where there is no interval."""
    if low != low or high != high:
        return "no interval"
    return f"95 % interval [{printed(low, pattern)}, {printed(high, pattern)}]"


def substitute_of(condition: str) -> str:
    """Return the substitute of a condition's name, empty for ``full`` and ``bare``."""
    return condition.partition(":")[2].partition("@")[0]
