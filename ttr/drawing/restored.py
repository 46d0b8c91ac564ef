"""The picture of a phantom on real weights: what the model shows, what artifacts make of it, what returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttr.drawing.maps import ATTENTION_MAP

COLUMNS = ("image", "original", "planted", "one test-time register")
SIDE = 2.3
#: Of the original's patches, so many per cent lie within the scale; a single bright one must not darken all.
WITHIN = 99.5


@dataclass(frozen=True, eq=False)
class Restored:
    """One row of the picture.

    Attributes:
        name: of the image.
        pixels: what the model saw, uint8 [H, W, 3].
        original: the unplanted model's map, [rows, columns].
        planted: the map with artifacts.
        after: the map with artifacts and one test-time register.
        planted_cosine: of the planted map with the original.
        after_cosine: of the map after with the original.
    """

    name: str
    pixels: np.ndarray
    original: np.ndarray
    planted: np.ndarray
    after: np.ndarray
    planted_cosine: float
    after_cosine: float


def draw_restored(rows: Sequence[Restored]) -> Any:
    """Return a matplotlib figure, a row an image: image, original, planted, after, and the cosines.

    The three maps of a row share the original's scale, so that equal colours are equal numbers.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE * len(COLUMNS), SIDE * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        high = float(np.percentile(row.original, WITHIN))
        line[0].imshow(row.pixels)
        for axis, values in zip(line[1:], (row.original, row.planted, row.after), strict=True):
            axis.imshow(values, cmap=ATTENTION_MAP, vmin=0, vmax=high, interpolation="nearest")
        said = ("", "", f"cosine {row.planted_cosine:.2f}", f"cosine {row.after_cosine:.3f}")
        for axis, text in zip(line, said, strict=True):
            axis.set(xticks=[], yticks=[], xlabel=text)
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(row.name)
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=10)
    return figure
