"""Norms and CLS attention: by block, of patches against registers, and as maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ttr.drawing.charts import axis, band, figure, line, log_axis
from ttr.drawing.colours import GREEN
from ttr.drawing.maps import AFTER, colourise, png_uri

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Of the images, so many per cent lie within a band.
BAND = (5, 95)
LARGEST = {"norms": "largest patch norm", "attention": "largest CLS attention to a patch"}
OF_TOKENS = {"norms": "norm (L2)", "attention": "CLS attention"}


def largest_by_block(norms: np.ndarray, attention: np.ndarray, colour: str) -> dict[str, Figure]:
    """Draw the largest patch norm and the largest CLS attention to a patch by block.

    Args:
        norms: of each image, [I, L].
        attention: of each image, [I, L].
        colour: of the line, the mean over the images; shaded: :data:`BAND`.

    Returns:
        ``norms`` and ``attention``.
    """
    drawn = {}
    for quantity, lines in (("norms", norms), ("attention", attention)):
        blocks, mean = list(range(lines.shape[1])), lines.mean(axis=0)
        low, high = np.percentile(lines, BAND, axis=0)
        hover = [
            f"<b>{LARGEST[quantity]}</b>, block {block}<br>"
            f"mean {m:.4g}, 5th to 95th percentile {a:.4g} to {b:.4g}"
            for block, m, a, b in zip(blocks, mean, low, high, strict=True)
        ]
        traces = [
            band(blocks, low.tolist(), high.tolist(), colour),
            line(blocks, mean.tolist(), "mean", 0, colour=colour, hovertext=hover, showlegend=False),
        ]
        drawn[quantity] = figure(
            traces, height=320, x=axis("block"), y=axis(LARGEST[quantity], rangemode="tozero")
        )
    return drawn


def patches_and_registers(
    norms: tuple[np.ndarray, np.ndarray], attention: tuple[np.ndarray, np.ndarray]
) -> dict[str, Figure]:
    """Draw norms and CLS attention of patches and of registers as boxes, on a logarithmic scale.

    A box spans the quartiles around the median, its whiskers the 5th to the 95th percentile.

    Args:
        norms: of the patches and of the registers, of any shape; without registers empty.
        attention: the same.

    Returns:
        ``norms`` and ``attention``.
    """
    from plotly.graph_objects import Box

    drawn = {}
    for quantity, pair in (("norms", norms), ("attention", attention)):
        traces, reached = [], []
        for name, values, colour in zip(("patches", "registers"), pair, (AFTER, GREEN), strict=True):
            if values.size:
                low, first, middle, third, high = np.percentile(values, (5, 25, 50, 75, 95)).tolist()
                reached += [low, high]
                ends = {"lowerfence": [low], "q1": [first], "median": [middle]}
                ends |= {"q3": [third], "upperfence": [high]}
                label = f"{name}<br>median {middle:.3g}"
                traces.append(Box(**ends, x=[label], name=name, marker={"color": colour}, width=0.5))
        drawn[quantity] = figure(
            traces,
            height=320,
            x=axis(showgrid=False),
            y=log_axis(OF_TOKENS[quantity], reached, hoverformat=".3g"),
            showlegend=False,
        )
    return drawn


def map_uri(values: np.ndarray, high: float, colour_map: str) -> str:
    """Return a map [rows, columns] as a data URI of a pixel a patch, on the scale 0..``high``."""
    return png_uri(colourise(values, high, colour_map, (values.shape[0], values.shape[1])))
