"""Do registers hold anything of the image? Their strongest one, across images, before and after the norm.

Seen as hidden states, the strongest registers of two images are nearly equal: a mean cosine of .9989 in
DINOv2-g (Lappe and Giese 2025). A few outlier dimensions do that, which are large in every image. The norm
before the attention scales them down, and behind it the registers differ. The mean over all pairs of n
different images follows from the sum of their unit vectors u_i,

    cosine = (|sum_i u_i|^2 - n) / (n (n - 1)),

so no pair is ever looked at.

A model without registers keeps such a token among its patches: the high-norm patches of Darcet et al. (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ttr.norms import token_norms
from ttr.statistics.estimates import Interval
from ttr.statistics.inference import bootstrap_interval
from ttr.tokens import Group, TokenLayout

OUTLYING = 10.0
NAMED = 10
#: Dimensions that are shown, as published.
SHOWN = 100


class Strongest(NamedTuple):
    """Each image's token of the largest norm.

    Attributes:
        before: what the block was given of it, float32 [B, D].
        after: the same after the block's first norm, float32 [B, D].
        place: which one of its group it is, int64 [B].
    """

    before: Tensor
    after: Tensor
    place: Tensor


def strongest_token(
    layout: TokenLayout, tokens: Tensor, normed: Tensor, group: Group = "all_registers"
) -> Strongest:
    """Return each image's token of the largest norm in a group; of equal ones the first.

    Args:
        layout: with at least one token of the group.
        tokens: what the block was given, [B, N, D].
        normed: the same after its first norm, [B, N, D].
        group: ``all_registers``, or ``patches`` of a model without registers.
    """
    before, after = (layout.select(x, group) for x in (tokens, normed))
    place = token_norms(before).argmax(dim=1)
    rows = torch.arange(len(place), device=place.device)
    return Strongest(before[rows, place].float(), after[rows, place].float(), place)


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


@dataclass(frozen=True, eq=False)
class LargestDimensions:
    """The dimensions in which a token is largest, over the images.

    Attributes:
        dimensions: indices, the largest mean |value| before the norm first, int [k].
        before: mean |value| of each before the norm, float64 [k].
        after: the same after the norm.
        signed_before: mean value before the norm.
        signed_after: the same after the norm.
    """

    dimensions: np.ndarray
    before: np.ndarray
    after: np.ndarray
    signed_before: np.ndarray
    signed_after: np.ndarray


def largest_dimensions(before: np.ndarray, after: np.ndarray, count: int = SHOWN) -> LargestDimensions:
    """Return the ``count`` largest dimensions of a token across images, [n, D] before and after the norm."""
    size = np.abs(before).mean(axis=0, dtype=np.float64)
    found = np.argsort(-size, kind="stable")[:count]
    return LargestDimensions(
        found,
        size[found],
        np.abs(after[:, found]).mean(axis=0, dtype=np.float64),
        *(x[:, found].mean(axis=0, dtype=np.float64) for x in (before, after)),
    )


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
