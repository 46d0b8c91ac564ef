"""A table of pictures: a row an image, a column a way of looking at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SIDE = 2.3


class Cell(NamedTuple):
    """One picture, uint8 [H, W, 3], and what stands under it."""

    pixels: np.ndarray
    caption: str = ""


def draw_table(columns: Sequence[str], rows: Mapping[str, Sequence[Cell]]) -> Any:
    """Return a matplotlib figure: the columns' titles above, the rows' names beside."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE * len(columns), SIDE * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (name, cells) in zip(axes, rows.items(), strict=True):
        for axis, cell in zip(line, cells, strict=True):
            axis.imshow(cell.pixels, interpolation="nearest")
            axis.set(xticks=[], yticks=[], xlabel=cell.caption)
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    return figure
