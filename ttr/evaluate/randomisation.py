"""Does a map depend on what was learned? Randomisation of the weights, in two ways.

Cascading randomisation (MPRT, Adebayo et al. 2018, arXiv 1810.03292):

Blocks lose what they learned one after another, from the last on, and each time the map is compared with that
of the whole model by the rank correlation of its patches. A map that stays as it was shows the image, or the
architecture, and nothing that was learned.

Efficient randomisation (eMPRT, Hedström et al. 2024, arXiv 2401.06465): a map of what was learned is simpler
than one of a model that has forgotten everything. With xi(e) the entropy of a map's histogram,

    rise = (xi(e_forgotten) - xi(e)) / xi(e)

which asks for no comparison of two maps, and so is not led by how alike any two noisy maps are.

A block loses it by a shuffle of each of its tensors: the numbers stay, and with them their size and spread,
so that no family needs a rule of its own for how its weights begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.base import Backbone

#: From so much rank correlation on, with every block shuffled, a map is flagged.
UNCHANGED = 0.5
#: Of the histogram whose entropy is a map's complexity.
BINS = 100


@contextmanager
def shuffling(backbone: Backbone, seed: int) -> Iterator[Callable[[int], None]]:
    """Yield what shuffles the weights of a block in place; on leaving all are what they were, to the bit.

    The numbers of each parameter are permuted by draws of ``seed``, the block and the parameter's place.
    """
    kept: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def shuffle(block: int) -> None:
        for place, weights in enumerate(backbone.sites.blocks[block].module.parameters()):
            kept.append((weights, weights.detach().clone()))
            order = np.random.default_rng([seed, block, place]).permutation(weights.numel())
            drawn = torch.from_numpy(order).to(weights.device)
            weights.copy_(weights.flatten()[drawn].view_as(weights))

    try:
        yield shuffle
    finally:
        with torch.no_grad():
            for weights, whole in reversed(kept):
                weights.copy_(whole)


def complexity(relevance: np.ndarray) -> float:
    """Return the entropy of a map's histogram of 100 equal bins from its least to its largest, nats, >= 0."""
    from scipy.stats import entropy

    return float(entropy(np.histogram(relevance, bins=BINS)[0]))


def rise(whole: Sequence[np.ndarray], forgotten: Sequence[np.ndarray]) -> np.ndarray:
    """Return by which share the complexity of maps rises, float64 [N]; NaN for maps of one number."""
    before, after = (np.array([complexity(each) for each in maps]) for maps in (whole, forgotten))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, (after - before) / before, np.nan)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two maps of one grid, -1..1.

    Two maps of one number each are alike (1); one of them beside a map that says something is not (0).
    """
    from scipy.stats import spearmanr

    flat = [not np.ptp(each) for each in (first, second)]
    if any(flat):
        return float(all(flat))
    return float(spearmanr(first.ravel(), second.ravel()).statistic)
