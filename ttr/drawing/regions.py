"""Where a map is bright: contours and boxes of its patches. The page's viewer draws the same in the browser.

A level is a share of the colour scale, 0..1, so that equal contours are equal colours.
"""

from __future__ import annotations

import math

import numpy as np

#: Shares of the scale around which contours run, and from which on a region gets a box.
CONTOURS, BOX = (0.25, 0.5, 0.75), 0.5
#: How many powers of ten a logarithmic scale spans at most.
DECADES = 3


def shares(values: np.ndarray, low: float, high: float, *, log: bool = False) -> np.ndarray:
    """Return where values lie on a scale, 0..1.

    Straight from ``low`` to ``high``, or logarithmic from the larger of ``low`` and high / 10^3 on:

        s = (ln v - ln l) / (ln h - ln l),     l = max(low, h / 1000).

    Args:
        values: of any shape.
        low: value of the first colour; smaller ones take it too.
        high: value of the last colour; larger ones take it too.
        log: logarithmic, for values above 0; where ``high`` is not above 0 the scale stays straight.
    """
    if not high > low:
        return np.zeros(np.shape(values))
    if log and high > 0:
        low = first_of_log(low, high)
        if not high > low:
            return np.zeros(np.shape(values))
        return np.log(np.maximum(values, low) / low).clip(0, np.log(high / low)) / np.log(high / low)
    return np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low), 0, 1)


def first_of_log(low: float, high: float) -> float:
    """Return where a logarithmic scale up to ``high`` > 0 begins: :data:`DECADES` below, or at ``low``."""
    return max(low, high / 10**DECADES)


def edges(found: np.ndarray, level: float) -> list[tuple[int, int, int, int]]:
    """Return the sides of patches between those of at least ``level`` and those below, (x, y, x, y) each.

    Args:
        found: shares of the scale, [rows, columns]; what lies outside of the map is below.
        level: of :data:`CONTOURS`.
    """
    inside = np.pad(found >= level, 1)
    upright = inside[1:-1, 1:] != inside[1:-1, :-1]
    level_ones = inside[1:, 1:-1] != inside[:-1, 1:-1]
    vertical = [(int(x), int(y), int(x), int(y) + 1) for y, x in np.argwhere(upright)]
    return vertical + [(int(x), int(y), int(x) + 1, int(y)) for y, x in np.argwhere(level_ones)]


def boxes(found: np.ndarray, level: float = BOX) -> list[tuple[int, int, int, int]]:
    """Return (left, top, right, bottom) in patches of each connected region of at least ``level``.

    Patches that share a side belong together; ``found`` is as in :func:`edges`.
    """
    from scipy.ndimage import find_objects, label

    regions, _ = label(found >= level)
    return [(x.start, y.start, x.stop, y.stop) for y, x in find_objects(regions)]


def ticks(low: float, high: float, *, log: bool = False, count: int = 5) -> list[tuple[float, str]]:
    """Return (share, number) of at most ``count`` places along a scale; no two numbers are written alike.

    As many decimals as tell them apart, in powers of ten below a ten-thousandth.
    """
    if not high > low:
        return [(1.0, _written([high])[0])]
    places = np.linspace(0, 1, count)
    is_log = log and high > 0
    if is_log:
        first = first_of_log(low, high)
        values = [float(first * (high / first) ** share) for share in places]
    else:
        values = [float(low + share * (high - low)) for share in places]
    return list(zip(places.tolist(), _written(values, each=is_log), strict=True))


def _written(values: list[float], *, each: bool = False) -> list[str]:
    """Return numbers with three significant digits of the largest, or as many more as tell them apart.

    ``each``: of each, as a logarithmic scale has no largest that others are small beside.
    """
    largest = max(map(abs, values))
    for digits in range(3, 12):
        said = [_number(value, digits, value if each else largest) for value in values]
        if len(set(said)) == len(said):
            break
    return said


def _number(value: float, digits: int, size: float) -> str:
    """Return a number with so many significant digits of one of that size."""
    if not value:
        return "0"
    if 1e-3 <= abs(size) < 1e6:
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(size))))}f}"
    return f"{value:.{digits - 1}e}"
