"""Insertion and deletion (RISE, Petsiuk et al. 2018, arXiv 1806.07421), patch by patch.

The strongest patches of a map are shown one tenth after another on a blank image, or blanked out of the whole
one, and the probability of a class is read at every step. A map that knows what the answer is made of makes
it rise early and fall early, so that its insertion has a large area and its deletion a small one. What is
blank decides much of it: a grey image is one that no model was trained on, a blurred one still says a little.
Both are given, and neither is the truth.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ttr.errors import OptionError

#: Shares of the patches that are shown or blanked out, from none to all.
SHARES = np.round(np.linspace(0, 1, 11), 2)
#: Deviation of the blur in sides of the image: RISE's 5 pixels of 224.
BLUR = 5 / 224
#: Names of the curves, and their areas'; a larger insertion and a smaller deletion speak for a map.
CURVES = ("insertion_zero", "insertion_blur", "deletion_zero", "deletion_blur")


def order_of(relevance: np.ndarray, seed: int | list[int]) -> np.ndarray:
    """Return the patches of a map [rows, columns] from the strongest on, int64 [P]; ties are drawn."""
    drawn = np.random.default_rng(seed).random(relevance.size)
    return np.lexsort((drawn, -relevance.ravel()))


def blurred(image: Tensor) -> Tensor:
    """Return an image [3, h, w] under a Gaussian of 5/224 of its shorter side."""
    from torchvision.transforms.functional import gaussian_blur

    sigma = BLUR * min(image.shape[-2:])
    return gaussian_blur(image, [2 * math.ceil(2 * sigma) + 1] * 2, [sigma, sigma])


def shown_on(image: Tensor, blank: Tensor, order: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Return ``blank`` with the first patches of an order taken from ``image``, [S, 3, h, w].

    Args:
        image: [3, h, w].
        blank: [3, h, w]; with the two exchanged it is a deletion.
        order: patches, all of them, row by row of the grid.
        grid: (rows, columns), which covers the image.

    Raises:
        OptionError: the order is of another grid.
    """
    rows, columns = grid
    if sorted(order.tolist()) != list(range(rows * columns)):
        raise OptionError(f"got an order of {len(order)} patches; needed each of {rows} x {columns} once")
    place = torch.empty(rows * columns, dtype=torch.long)
    place[torch.from_numpy(order)] = torch.arange(rows * columns)
    height, width = image.shape[-2:]
    row, column = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    of_pixel = place.view(rows, columns)[row][:, column].to(image.device)
    counts = torch.from_numpy((SHARES * rows * columns).round().astype(np.int64)).to(image.device)
    shown = of_pixel < counts[:, None, None]
    return torch.where(shown[:, None], image, blank)


def steps(image: Tensor, order: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Return the images of all :data:`CURVES`, [4 S, 3, h, w]; zero is that of the normalised pixels."""
    zero, blur = torch.zeros_like(image), blurred(image)
    pairs = ((image, zero), (image, blur), (zero, image), (blur, image))
    return torch.cat([shown_on(first, second, order, grid) for first, second in pairs])


def areas(curves: np.ndarray) -> np.ndarray:
    """Return the area under curves [..., S] over the shares 0..1, by trapezoids, float64 [...]."""
    return ((curves[..., 1:] + curves[..., :-1]) / 2).mean(axis=-1)
