"""Pixels that are not there, filled in from those around them (ROAD, Rong et al. 2022, arXiv 2202.00449).

A blank patch is a shape of its own, and a model may answer to the shape. So each missing pixel becomes the
mean of its eight neighbours, those beside it counting twice as much as those across a corner,

    x_p = sum over q around p of w_pq x_q / sum over q around p of w_pq,    w = 1/6 beside, 1/12 across,

which is one sparse linear system for all that is missing; what is there stays, and neighbours outside of the
image are none. A little noise is added, so that the filling is not told by its smoothness.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ttr.errors import OptionError

#: Rows down, columns across and weight of each neighbour.
NEIGHBOURS = tuple(
    (down, across, 1 / 12 if down and across else 1 / 6)
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if down or across
)
#: Standard deviation of the noise, in units of the normalised image.
NOISE = 0.01


def imputed(image: Tensor, missing: np.ndarray, seed: int | list[int], noise: float = NOISE) -> Tensor:
    """Return an image whose missing pixels are filled in from the rest, float32 [C, h, w] on its device.

    Where everything is missing nothing is known, and zero, the mean of the normalisation, stands everywhere.

    Args:
        image: [C, h, w].
        missing: bool [h, w].
        seed: of the noise.
        noise: its standard deviation.

    Raises:
        OptionError: ``missing`` has another size.
    """
    if missing.shape != tuple(image.shape[-2:]):
        raise OptionError(f"got missing pixels {missing.shape} of an image {tuple(image.shape)}")
    filled = image.detach().cpu().double().numpy().copy()
    drawn = np.random.default_rng(seed).normal(0, noise, (int(missing.sum()), len(filled)))
    if missing.all():
        filled[:] = 0
    elif missing.any():
        filled[:, missing] = _solved(filled, missing).T
    filled[:, missing] += drawn.T
    return torch.from_numpy(filled).to(image.device, torch.float32)


def _solved(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return the missing pixels, float64 [M, C], in the order of the mask."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import splu

    height, width = missing.shape
    place = np.full(missing.shape, -1)
    place[missing] = np.arange(missing.sum())
    rows, columns = np.nonzero(missing)
    count = len(rows)
    weight, known = np.zeros(count), np.zeros((count, len(image)))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for down, across, share in NEIGHBOURS:
        row, column = rows + down, columns + across
        inside = np.flatnonzero((row >= 0) & (row < height) & (column >= 0) & (column < width))
        row, column = row[inside], column[inside]
        weight[inside] += share
        other = place[row, column]
        there = other < 0
        known[inside[there]] += share * image[:, row[there], column[there]].T
        entries.append((inside[~there], other[~there], np.full((~there).sum(), -share)))
    entries.append((np.arange(count), np.arange(count), weight))
    at, of, values = (np.concatenate(each) for each in zip(*entries, strict=True))
    system = coo_matrix((values, (at, of)), shape=(count, count)).tocsc()
    # The system is symmetric and every pivot is on its diagonal: an order for that fills in the least.
    solver = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
    return solver.solve(known)
