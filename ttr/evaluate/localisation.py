"""Is a map where the finding is? Metrics of one map over the patches against one mask over the pixels.

How they meet is decided once, in :class:`Truth`: a patch has one number, and each of its pixels has that
number. Nothing is interpolated, since a model says nothing between its patches; a map is scored as it is
drawn, and what a metric needs of a mask is how many pixels of each patch lie inside.

A map that says nothing (all of it equal, or nowhere positive where only what is positive counts) prefers no
pixel to another, and scores what a uniform map does, which is the share of the mask, in every metric: it is
neither NaN nor a miss. A map of random numbers scores the same on average by pointing game, mass and rank;
its AUPRC and its IoUs are higher where there are few patches, and are measured instead of assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ttr.datasets.registry import IGNORE
from ttr.errors import OptionError

#: Of a map scaled to 0..1, where an IoU may cut it.
THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
#: Of a centred Gaussian's deviation, in sides of the image.
CENTRED = 0.25
#: Per cent of the pixels, the strongest, that a box is drawn around.
STRONGEST = (5, 10, 20, 40)


@dataclass(frozen=True, eq=False)
class Truth:
    """A mask as the patches see it.

    Attributes:
        inside: pixels of each patch inside the mask, int64 [P], row by row of the grid.
        pixels: pixels of each patch that count, int64 [P].
        grid: (rows, columns).
    """

    inside: np.ndarray
    pixels: np.ndarray
    grid: tuple[int, int]

    @classmethod
    def of(cls, mask: np.ndarray, grid: tuple[int, int]) -> Truth:
        """Count the pixels of a mask, bool or int [H, W] (0 outside, 255 does not count), over a grid."""
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.shape[0] < grid[0] or mask.shape[1] < grid[1]:
            raise OptionError(f"got a mask of shape {mask.shape}; needed at least a pixel a patch of {grid}")
        (height, width), (rows, columns) = mask.shape, grid
        row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
        cell = (row[:, None] * columns + column).ravel()
        kept = (mask != IGNORE).ravel()
        inside = kept & (mask != 0).ravel()
        count = rows * columns
        return cls(np.bincount(cell[inside], minlength=count), np.bincount(cell[kept], minlength=count), grid)

    @property
    def share(self) -> float:
        """Share of the pixels that count which lie inside, 0..1; 0 where none counts."""
        return float(self.inside.sum() / max(int(self.pixels.sum()), 1))


def pointing_game(relevance: np.ndarray, truth: Truth) -> float:
    """Return whether the strongest pixel lies inside, 0 or 1; of several the share that does (Zhang 2018).

    hit = |{p in M : r_p = max r}| / |{p : r_p = max r}|, without a tolerance around M. A patch is one number,
    so that the strongest is as many pixels as a patch has.

    Args:
        relevance: float [rows, columns] of the grid.
        truth: of a mask that is not empty.

    Raises:
        OptionError: another grid, numbers that are not finite, or an empty mask; as of all metrics here.
    """
    values, inside, pixels = _counted(relevance, truth)
    strongest = values == values.max()
    return float(inside[strongest].sum() / pixels[strongest].sum())


def relevance_mass(relevance: np.ndarray, truth: Truth) -> float:
    """Return the share of the relevance that lies inside, 0..1 (Arras et al. 2022): "energy in mask".

    mass = sum_{p in M} max(r_p, 0) / sum_p max(r_p, 0): what speaks against a class is no evidence for it.
    """
    values, inside, pixels = _counted(relevance, truth)
    positive = np.maximum(values, 0)
    if not positive.any():
        return truth.share
    positive = positive / positive.max()
    return float(positive @ inside / (positive @ pixels))


def relevance_rank(relevance: np.ndarray, truth: Truth) -> float:
    """Return the share of the |M| strongest pixels that lie inside, 0..1 (Arras et al. 2022).

    Of equal pixels at the end of those |M|, the mean over every choice among them.
    """
    inside, pixels = _steps(relevance, truth)
    wanted = inside.sum()
    before = np.cumsum(pixels) - pixels
    taken = np.clip(wanted - before, 0, pixels)
    return float((inside * taken / pixels).sum() / wanted)


def auprc(relevance: np.ndarray, truth: Truth) -> float:
    """Return the area under precision and recall over all cuts, 0..1, as average precision.

    AP = sum_k (R_k - R_{k-1}) P_k over the distinct numbers of the map from above (Davis and Goadrich 2006 on
    why nothing is interpolated linearly).
    """
    inside, pixels = _steps(relevance, truth)
    hits = np.cumsum(inside)
    return float((inside / hits[-1] * hits / np.cumsum(pixels)).sum())


def iou_otsu(relevance: np.ndarray, truth: Truth) -> float:
    """Return the IoU of the mask with what Otsu's (1979) threshold leaves of the map, 0..1.

    The cut t between two numbers of the map maximises w_0 w_1 (m_0 - m_1)^2, with the shares of pixels above
    and below and their means; numbers are the map's own, without bins. Of equal cuts the highest counts.
    """
    values, inside, pixels = _counted(relevance, truth)
    levels, place = np.unique(values, return_inverse=True)
    if len(levels) == 1:
        return truth.share
    weight = np.bincount(place, pixels)[::-1]
    # Centred and scaled, so that nothing overflows and no digits are lost to an offset.
    scaled = ((levels - levels[0]) / (levels[-1] - levels[0]))[::-1]
    above, total = np.cumsum(weight)[:-1], weight.sum()
    sums = np.cumsum(weight * scaled)
    between = above * (total - above) * (sums[:-1] / above - (sums[-1] - sums[:-1]) / (total - above)) ** 2
    kept = values >= levels[::-1][between.argmax()]
    return float(_iou(kept, inside, pixels))


def iou_at(relevance: np.ndarray, truth: Truth, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """Return the IoU of the mask with what is at least t of the map scaled to 0..1, float64 [T].

    The t that is best on average over validation images (:func:`best_threshold`) is the one that a test
    counts, as in CheXlocalize (Saporta et al. 2022).
    """
    values, inside, pixels = _counted(relevance, truth)
    low, high = values.min(), values.max()
    if low == high:
        return np.full(len(thresholds), truth.share)
    kept = (values - low) / (high - low) >= np.asarray(thresholds)[:, None]
    return _iou(kept, inside, pixels)


def pointing_any(relevance: np.ndarray, truth: Truth) -> float:
    """Return whether any of the strongest pixels lies inside, 0 or 1, as Chung et al. (2025) count a hit.

    hit = 1 if max_{p in M} r_p = max r. A patch has as many strongest pixels; one of them inside is
    a whole hit, where :func:`pointing_game` counts their share.
    """
    values, inside, _ = _counted(relevance, truth)
    strongest = values == values.max()
    return truth.share if strongest.all() else float(inside[strongest].any())


def box_iou(relevance: np.ndarray, truth: Truth, percent: float) -> float:
    """Return the IoU of the mask with one box around all of the strongest pixels, 0..1 (Chung et al. 2025).

    Kept is r_p >= the number of rank floor(percent / 100 of the pixels) from above; the box is
    the smallest with sides along the grid that holds all that is kept, islands and what is between them.
    """
    values, inside, pixels = _counted(relevance, truth)
    if np.ptp(values) == 0:
        return truth.share
    order = np.argsort(-values, kind="stable")
    rank = int(pixels.sum() * percent / 100)
    level = values[order][np.searchsorted(np.cumsum(pixels[order]), rank, side="right")]
    strongest = np.zeros(truth.grid, dtype=bool)
    strongest.flat[np.flatnonzero(truth.pixels > 0)[values >= level]] = True
    rows, columns = (np.flatnonzero(strongest.any(axis=axis)) for axis in (1, 0))
    box = np.zeros(truth.grid, dtype=bool)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return float(_iou(box.ravel()[truth.pixels > 0], inside, pixels))


def best_threshold(ious: np.ndarray) -> int:
    """Return which threshold has the highest mean over images, of IoUs [N, T]; of equals the lowest."""
    return int(ious.mean(axis=0).argmax())


#: Metrics of a single map; the IoU at a threshold needs validation images besides.
METRICS: dict[str, Callable[[np.ndarray, Truth], float]] = {
    "pointing_game": pointing_game,
    "relevance_mass": relevance_mass,
    "relevance_rank": relevance_rank,
    "auprc": auprc,
    "iou_otsu": iou_otsu,
}
AT_BEST = "iou_best_threshold"
#: Those of Chung et al. (2025) as well, which are scored on request.
BOXED: dict[str, Callable[[np.ndarray, Truth], float]] = {
    "pointing_any": pointing_any,
    **{f"box_iou_{percent}": partial(box_iou, percent=percent) for percent in STRONGEST},
}


def is_flat(relevance: np.ndarray) -> bool:
    """Return whether a map says nothing: all of it is one number."""
    return bool(np.ptp(relevance) == 0)


def centred_gaussian(grid: tuple[int, int]) -> np.ndarray:
    """Return exp(-|x|^2 / 2 s^2), x in sides of the image from its middle and s = 1/4, float64 on a grid.

    What a map scores that knows nothing but where photographers put things.
    """
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in grid)
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * CENTRED**2))


def _counted(relevance: np.ndarray, truth: Truth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return number, pixels inside and pixels of each patch that has some that count."""
    values = np.asarray(relevance, dtype=np.float64)
    if values.shape != truth.grid:
        raise OptionError(
            f"got a map of {values.shape} for a mask over {truth.grid} patches; needed one grid"
        )
    if not np.isfinite(values).all():
        raise OptionError("the map holds NaN or infinite numbers; a metric of it would say nothing")
    if not truth.inside.any():
        raise OptionError("the mask is empty; needed a pixel inside: leave the image out")
    kept = truth.pixels > 0
    return values.ravel()[kept], truth.inside[kept], truth.pixels[kept]


def _steps(relevance: np.ndarray, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels inside and all pixels at each distinct number of the map, from the highest on."""
    values, inside, pixels = _counted(relevance, truth)
    place = np.unique(-values, return_inverse=True)[1]
    return np.bincount(place, inside), np.bincount(place, pixels)


def _iou(kept: np.ndarray, inside: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the IoU of what is kept, bool [..., P] -> float64 [...]."""
    both = kept @ inside
    return both / (kept @ pixels + inside.sum() - both)
