"""Patch features as colours: their first three principal components, as red, green and blue.

One basis serves every image and every condition that is shown together. A basis fitted to each picture anew
turns and flips freely, and then two pictures that differ may mean nothing. The range is shared too: the
2nd to 98th percentile of each component over the patches of the fit, so that a few outlier patches do not
leave the rest grey. What lies outside is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttr.errors import OptionError

COMPONENTS = 3
RANGE = (2, 98)


@dataclass(frozen=True, eq=False)
class Colours:
    """A shared basis from patch features to colours. Make one with :func:`fit_colours`.

    Attributes:
        mean: of the patches of the fit, float64 [D].
        components: principal directions, each with its largest entry positive, float64 [3, D].
        low: what becomes 0 in each channel, float64 [3].
        high: what becomes 255, float64 [3].
        explained: share of the patches' variance along each direction, float64 [3], 0..1.
    """

    mean: np.ndarray
    components: np.ndarray
    low: np.ndarray
    high: np.ndarray
    explained: np.ndarray

    def paint(self, patches: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Return the picture of one image's patches, uint8 [rows, columns, 3].

        Args:
            patches: float [P, D], row by row of the grid.
            grid: (rows, columns).

        Raises:
            OptionError: other patches than the grid holds, or of another width than the basis.
        """
        patches = np.asarray(patches)
        needed = (grid[0] * grid[1], len(self.mean))
        if patches.shape != needed:
            raise OptionError(f"got patches of shape {patches.shape}; needed {needed} for a grid {grid}")
        projected = (patches.astype(np.float64) - self.mean) @ self.components.T
        spread = self.high - self.low
        # A direction along which nothing varies is mid-grey.
        scaled = np.where(spread > 0, (projected - self.low) / np.where(spread > 0, spread, 1), 0.5)
        return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8).reshape(*grid, COMPONENTS)


def fit_colours(patches: np.ndarray) -> Colours:
    """Fit a basis to patches of all images and conditions that will be shown together.

    Args:
        patches: float [M, D], any mixture of them; a few thousand are plenty.

    Raises:
        OptionError: not [M, D] with at least 3 patches and 3 dimensions, or not finite.
    """
    patches = np.asarray(patches, dtype=np.float64)
    if patches.ndim != 2 or min(patches.shape) < COMPONENTS or not np.isfinite(patches).all():
        raise OptionError(
            f"got patches of shape {patches.shape}; needed [M, D], both at least {COMPONENTS}, all finite"
        )
    mean = patches.mean(axis=0)
    # numpy's own: scikit-learn's PCA is the same, and costs the page two seconds of imports.
    _, lengths, directions = np.linalg.svd(patches - mean, full_matrices=False)
    # The sign of a direction is arbitrary, and differs between versions of the solver.
    first = directions[:COMPONENTS]
    components = first * np.sign(first[range(COMPONENTS), np.abs(first).argmax(axis=1)])[:, None]
    low, high = np.percentile((patches - mean) @ components.T, RANGE, axis=0)
    variance = lengths**2
    explained = variance[:COMPONENTS] / (variance.sum() or 1)  # flat patches have none to explain
    return Colours(mean, components, low, high, explained)
