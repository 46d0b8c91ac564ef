"""Do registers hold anything of the image? Their strongest one, across images, before and after the norm.

Seen as hidden states, the strongest registers of two images are nearly equal: a mean cosine of .9989 in
DINOv2-g (Lappe and Giese 2025). A few outlier dimensions do that, which are large in every image. The norm
before the attention scales them down, and behind it the registers differ. The mean over all pairs of n
different images follows from the sum of their unit vectors u_i,

    cosine = (|sum_i u_i|^2 - n) / (n (n - 1)),

so no pair is ever looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttr.norms import token_norms
from ttr.statistics.estimates import Interval
from ttr.statistics.inference import bootstrap_interval
from ttr.tokens import TokenLayout

OUTLYING = 10.0
NAMED = 10


def strongest_register(layout: TokenLayout, tokens: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's register of the largest norm, and the same token after the norm.

    Args:
        layout: with at least one register, trained or test-time.
        tokens: what the block was given, [B, N, D].
        normed: the same after its first norm, [B, N, D].

    Returns:
        Float32 [B, D] each.
    """
    before, after = (layout.select(x, "all_registers").float() for x in (tokens, normed))
    chosen = token_norms(before).argmax(dim=1)
    rows = torch.arange(len(chosen), device=chosen.device)
    return before[rows, chosen], after[rows, chosen]


@dataclass(frozen=True)
class Alike:
    """How alike a vector is across images.

    Attributes:
        cosine: mean over all pairs of different images, -1..1; NaN for a single image.
        interval: 95 %, over images; pairs of an image's own copies are left out.
    """

    cosine: float
    interval: Interval


def alike(vectors: np.ndarray, weights: np.ndarray) -> Alike:
    """Return the mean pairwise cosine of a vector across images, [n, D].

    Args:
        vectors: one an image.
        weights: how often each image was drawn, int [resamples, n].
    """
    wide = np.asarray(vectors, dtype=np.float64)
    units = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def mean(w: np.ndarray) -> np.ndarray:
        own = (w**2).sum(axis=1)
        pairs = w.sum(axis=1) ** 2 - own
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, (((w @ units) ** 2).sum(axis=1) - own) / pairs, np.nan)

    value = float(mean(np.ones((1, len(units))))[0])
    if np.isnan(value):
        return Alike(value, Interval(np.nan, np.nan, "one image has no pair"))
    return Alike(value, bootstrap_interval(value, mean(weights.astype(np.float64))))


@dataclass(frozen=True)
class OutlierDimensions:
    """The dimensions that make registers of different images look equal.

    Attributes:
        dimensions: indices, the largest mean |value| first; at most ten are named.
        count: how many there are: mean |value| above ten times the median dimension's.
        share_before: their share of the squared length before the norm, 0..1.
        share_after: the same after the norm.
    """

    dimensions: tuple[int, ...]
    count: int
    share_before: float
    share_after: float


def outlier_dimensions(before: np.ndarray, after: np.ndarray) -> OutlierDimensions:
    """Name the outlier dimensions of a register across images, [n, D] before and after the norm."""
    size = np.abs(before).mean(axis=0, dtype=np.float64)
    found = np.flatnonzero(size > OUTLYING * np.median(size))
    found = found[np.argsort(-size[found], kind="stable")]
    shares = []
    for x in (before, after):
        energy = np.square(x, dtype=np.float64).sum(axis=0)
        shares.append(float(energy[found].sum() / max(energy.sum(), np.finfo(np.float64).tiny)))
    return OutlierDimensions(tuple(found[:NAMED].tolist()), len(found), *shares)
