"""The picture of a phantom on real weights: what the model shows, what artifacts make of it, what returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttr.drawing.maps import ATTENTION_MAP, below_extremes, colourise
from ttr.drawing.picture_table import Cell, draw_table

COLUMNS = ("image", "original", "planted", "one test-time register")


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
    return draw_table(COLUMNS, {row.name: _cells(row) for row in rows})


def _cells(row: Restored) -> list[Cell]:
    high, size = below_extremes(row.original), row.pixels.shape[:2]
    captions = ("", f"cosine {row.planted_cosine:.2f}", f"cosine {row.after_cosine:.3f}")
    maps = (row.original, row.planted, row.after)
    drawn = [
        Cell(colourise(values, high, ATTENTION_MAP, size), said)
        for values, said in zip(maps, captions, strict=True)
    ]
    return [Cell(row.pixels), *drawn]
