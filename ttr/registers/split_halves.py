"""How stable a head of the ranking is: its overlap between halves of the same images, drawn again and again.

Evidence is a sum over images, held in some parts of it (:mod:`ttr.registers.evidence`), so halves are drawn
among the parts and no image is looked at twice. Each half ranks the neurons of the allowed blocks by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
from torch import Tensor

from ttr.registers.evidence import Sums
from ttr.registers.neurons import SplitHalves

#: Parts that evidence is held in for it.
PARTS = 16
HEADS = (5, 10, 20, 50)
SEED = 42


def split_halves(
    parts: Sequence[Sums], top_layer: int, kept: int, splits: int, seed: int = SEED
) -> tuple[SplitHalves, ...]:
    """Return the overlap of two random halves of the parts, at the heads and at as many as were kept.

    Args:
        parts: sums over different images; those of none are left out.
        top_layer: last block whose neurons are ranked.
        kept: neurons that were kept of all images.
        splits: how many times halves are drawn, at least 1.
        seed: of the draws.

    Returns:
        A value for each head; none with fewer than two parts.
    """
    scores = [part.scores[: top_layer + 1].flatten() for part in parts if part.images]
    if len(scores) < 2:
        return ()
    neurons = scores[0].numel()
    tops = sorted({k for k in (*HEADS, kept) if 0 < k <= neurons})
    random = np.random.default_rng(seed)
    shares = np.empty((splits, len(tops)))
    for split in range(splits):
        order = random.permutation(len(scores))
        halves = (order[: len(order) // 2], order[len(order) // 2 :])
        first, second = (_order(reduce(add, (scores[i] for i in half)), tops[-1]) for half in halves)
        shares[split] = [len(np.intersect1d(first[:k], second[:k])) / k for k in tops]
    low, high = np.quantile(shares, (0.025, 0.975), axis=0)
    return tuple(
        SplitHalves(k, float(share), float(a), float(b), k / neurons, splits)
        for k, share, a, b in zip(tops, shares.mean(axis=0), low, high, strict=True)
    )


def _order(scores: Tensor, most: int) -> np.ndarray:
    """Return the places of the highest scores, best first; equal ones in order."""
    return np.argsort(-scores.numpy(), kind="stable")[:most]
