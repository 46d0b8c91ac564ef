"""Insertion and deletion (RISE, Petsiuk et al. 2018, arXiv 1806.07421), patch by patch.

The strongest patches of a map are shown one tenth after another on a blank image, or blanked out of the whole
one, and the probability of a class is read at every step. A map that knows what the answer is made of makes
it rise early and fall early, so that its insertion has a large area and its deletion a small one. What is
blank decides much of it: a grey image (zero) is one that no model was trained on, a blurred one (blur) still
says a little, one that is filled in from the patches that are shown (road) hides which patches these are
(:mod:`ttr.evaluate.imputation`). Each is a curve of its own, and none is the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ttr.errors import OptionError
from ttr.evaluate.imputation import imputed

#: Shares of the patches that are shown or blanked out, from none to all.
SHARES = np.round(np.linspace(0, 1, 11), 2)
#: Deviation of the blur in sides of the image: RISE's 5 pixels of 224.
BLUR = 5 / 224
#: What stands where nothing is shown.
BLANKS = ("zero", "blur", "road")


def curve_names(blanks: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the curves, and their areas'; large insertions and small deletions are good."""
    return tuple(f"{kind}_{blank}" for kind in ("insertion", "deletion") for blank in blanks)


def order_of(relevance: np.ndarray, seed: int | list[int]) -> np.ndarray:
    """Return the patches of a map [rows, columns] from the strongest on, int64 [P]; ties are drawn."""
    drawn = np.random.default_rng(seed).random(relevance.size)
    return np.lexsort((drawn, -relevance.ravel()))


def blurred(image: Tensor) -> Tensor:
    """Return an image [3, h, w] under a Gaussian of 5/224 of its shorter side."""
    from torchvision.transforms.functional import gaussian_blur

    sigma = BLUR * min(image.shape[-2:])
    return gaussian_blur(image, [2 * math.ceil(2 * sigma) + 1] * 2, [sigma, sigma])


def shown_pixels(order: np.ndarray, grid: tuple[int, int], size: Sequence[int]) -> Tensor:
    """Return which pixels belong to the first patches of an order at each of SHARES, bool [S, h, w].

    Args:
        order: patches, all of them, row by row of the grid.
        grid: (rows, columns), which covers the image.
        size: (h, w).

    Raises:
        OptionError: the order is of another grid.
    """
    rows, columns = grid
    if sorted(order.tolist()) != list(range(rows * columns)):
        raise OptionError(f"got an order of {len(order)} patches; needed each of {rows} x {columns} once")
    place = torch.empty(rows * columns, dtype=torch.long)
    place[torch.from_numpy(order)] = torch.arange(rows * columns)
    height, width = size
    row, column = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    of_pixel = place.view(rows, columns)[row][:, column]
    counts = torch.from_numpy((SHARES * rows * columns).round().astype(np.int64))
    return of_pixel < counts[:, None, None]


def steps(
    image: Tensor,
    order: np.ndarray,
    grid: tuple[int, int],
    blanks: Sequence[str] = ("zero", "blur"),
    seed: int | list[int] = 0,
) -> Tensor:
    """Return the images of all curves, as :func:`curve_names` orders them, [2 B S, 3, h, w].

    Args:
        image: [3, h, w], normalised; zero is its zero.
        order: patches, all of them, row by row of the grid.
        grid: (rows, columns), which covers the image.
        blanks: B of :data:`BLANKS`.
        seed: of ROAD's noise.

    Raises:
        OptionError: the order is of another grid.
    """
    shown = shown_pixels(order, grid, image.shape[-2:])
    return torch.cat([_on(image, there, blank, seed) for there in (shown, ~shown) for blank in blanks])


def _on(image: Tensor, there: Tensor, blank: str, seed: int | list[int]) -> Tensor:
    """Return an image where it is there and a blank elsewhere, at each step [S, h, w] -> [S, 3, h, w]."""
    if blank == "road":
        return torch.stack([imputed(image, ~step.numpy(), seed) for step in there]).to(image.dtype)
    behind = torch.zeros_like(image) if blank == "zero" else blurred(image)
    return torch.where(there[:, None].to(image.device), image, behind)


def areas(curves: np.ndarray) -> np.ndarray:
    """Return the area under curves [..., S] over the shares 0..1, by trapezoids, float64 [...]."""
    return ((curves[..., 1:] + curves[..., :-1]) / 2).mean(axis=-1)
