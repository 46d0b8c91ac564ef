"""Charts of the page that answer to the pointer, as Plotly figures: they draw what was computed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ttr.drawing.charts import quiet
from ttr.drawing.maps import AFTER, BEFORE
from ttr.studies.compare.comparison import ImageComparison

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

QUANTITIES = (
    ("max_patch_norm", "largest patch norm"),
    ("max_patch_attention", "largest CLS attention to a patch"),
    ("register_attention", "CLS attention held by registers"),
)


#: How lines are drawn, before and after, of the first and of the second choice.
DASHES = (("solid", "dash"), ("dot", "dashdot"))


def block_curves(choices: Sequence[tuple[str, ImageComparison]]) -> Figure:
    """Draw norms and attention by block, before and after, of one choice or of two, (name, comparison)."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=3,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        subplot_titles=[label for _, label in QUANTITIES],
    )
    lines = [
        (run, f"{run}, {choice}" if choice else run, comparison, colour, dash)
        for (choice, comparison), dashes in zip(choices, DASHES, strict=False)
        for run, colour, dash in zip(("before", "after"), (BEFORE, AFTER), dashes, strict=True)
    ]
    for row, (quantity, _) in enumerate(QUANTITIES, start=1):
        for run, name, comparison, colour, dash in lines:
            values = getattr(getattr(comparison, run).curves, quantity)
            figure.add_trace(
                Scatter(
                    x=list(range(len(values))),
                    y=values,
                    name=name,
                    mode="lines+markers",
                    line={"color": colour, "dash": dash},
                    showlegend=row == 1,
                    hovertemplate=f"block %{{x}}<br>{escape(name)} %{{y:.4g}}<extra></extra>",
                ),
                row=row,
                col=1,
            )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(title_text="block", dtick=1, row=3, col=1)
    return quiet(figure, height=620, margin={"l": 50, "r": 12, "t": 64, "b": 44}, legend={"y": 1.05})


def on_page(figure: Figure, *, mark: int | None = None) -> Figure:
    """Return a figure of :mod:`ttr.studies.ablate.task_charts` for the page.

    A finger scrolls past it instead of zooming, what the pointer shows stands on one dark ground (the page
    writes it in white), and a dotted line stands at the block ``mark``.
    """
    figure.update_layout(dragmode=False, hoverlabel={"bgcolor": "#1f2937", "bordercolor": "#9ca3af"})
    if mark is not None:
        figure.add_vline(mark, line={"color": "rgba(128,128,128,.9)", "width": 1, "dash": "dot"})
    return figure
