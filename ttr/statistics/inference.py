"""Resamples of a test set, and tests of whether two arms differ on the same images.

Resamples draw images, or whole groups (patients) where there are some: images of one patient are no
independent evidence. Arms are compared image by image: McNemar's exact test on who is right where, and a
paired permutation test that swaps the two arms' predictions of an image (of a group),

    p = (1 + #{|d*| >= |d|}) / (1 + permutations),

which needs no assumption beyond exchangeability under the null (Phipson and Smyth 2010 on the 1s). What is
made of their p-values is decided in :mod:`ttr.statistics.verdict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.statistics.estimates import CONFIDENCE, Interval
from ttr.wording import counted

RESAMPLES = 1000
PERMUTATIONS = 10_000
TOO_MANY_UNDEFINED = 0.05


def resample_weights(
    count: int, *, groups: Sequence[str] | None = None, resamples: int = RESAMPLES, seed: int = 42
) -> np.ndarray:
    """Draw bootstrap resamples of ``count`` images, as how often each was drawn, int64 [resamples, count].

    With ``groups``, as many groups as there are, whole, with replacement. The same arguments give the same
    draws, so two arms can be given the same resamples.

    Raises:
        OptionError: nothing to draw from, or ``groups`` of another length.
    """
    integer("count", count, 1)
    integer("resamples", resamples, 1)
    if groups is not None and len(groups) != count:
        raise OptionError(
            f"got {counted(len(groups), 'group')} for {counted(count, 'image')}; give one an image"
        )
    random = np.random.default_rng(seed)
    member = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(member.max()) + 1
    drawn = random.multinomial(units, np.full(units, 1 / units), size=resamples)
    return drawn[:, member]


def rescaled_weights(
    strata: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 42,
) -> tuple[np.ndarray, float]:
    """Draw the rescaled bootstrap of Rao and Wu (1988) within strata, float64 [resamples, N].

    Of the m images of a stratum (a class) m - 1 are drawn with replacement, each counting m / (m - 1) times:
    plain resamples of five images a class spread too little by a tenth. Strata of a single image are drawn
    together. Where images belong to groups, whole groups are drawn, within strata if none of them straddles.

    Args:
        strata: of each image, int [N].
        groups: of each image.
        resamples: how many.
        seed: of the draws.

    Returns:
        The weights, and the degrees of freedom that they have: units - strata.

    Raises:
        OptionError: fewer than two images (groups), or ``groups`` of another length.
    """
    if groups is not None and len(groups) != len(strata):
        raise OptionError(
            f"got {counted(len(groups), 'group')} for {counted(len(strata), 'image')}; give one an image"
        )
    member = np.arange(len(strata)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(member.max()) + 1
    if units < 2:
        raise OptionError("got one image or group; a spread needs two")
    pairs = np.unique(np.stack([member, strata]), axis=1)
    of_unit = pairs[1] if pairs.shape[1] == units else np.zeros(units, dtype=int)
    places, sizes = np.unique(of_unit, return_inverse=True, return_counts=True)[1:]
    places = np.where(sizes[places] == 1, len(sizes), places)
    if (places == len(sizes)).sum() == 1:
        places[:] = 0
    random = np.random.default_rng(seed)
    weights = np.zeros((resamples, units))
    for place in np.unique(places):
        own = np.flatnonzero(places == place)
        drawn = random.multinomial(len(own) - 1, np.full(len(own), 1 / len(own)), size=resamples)
        weights[:, own] = drawn * len(own) / (len(own) - 1)
    return weights[:, member], float(units - len(np.unique(places)))


def units_that_differ(differences: np.ndarray, groups: Sequence[str] | None = None) -> int:
    """Return in how many images (groups, by their sums) two arms differ, which all paired tests rest on."""
    if groups is not None:
        differences = np.bincount(np.unique(groups, return_inverse=True)[1], differences)
    return int((differences != 0).sum())


def bootstrap_interval(value: float, values: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Return the bias-corrected percentile interval (Efron 1981) of a number.

    With z0 the normal quantile of the share of resamples below the number itself, its ends are the
    percentiles Phi(2 z0 -/+ z). A macro average over classes with few images each is lower on resamples than
    on the sample; plain percentiles (z0 = 0) then miss the truth far too often.

    Args:
        value: the number on the sample.
        values: on the resamples, float [R]; NaN where it is not defined. With more than 5 % of them there is
            no interval.
        confidence: 0..1.
    """
    from scipy.special import ndtr, ndtri

    defined = values[np.isfinite(values)]
    missing = 1 - len(defined) / len(values)
    if missing > TOO_MANY_UNDEFINED:
        return Interval(float("nan"), float("nan"), f"not defined on {100 * missing:.0f} % of the resamples")
    # Half of the ties count as below; a number at the very end of its resamples is left uncorrected.
    below = (np.mean(defined < value) + np.mean(defined <= value)) / 2
    shift = ndtri(below) if 0 < below < 1 else 0.0
    ends = ndtr(2 * shift + ndtri([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.percentile(defined, 100 * ends)
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test.

    Attributes:
        only_a: images that a alone got right.
        only_b: images that b alone got right.
        p: two-sided, 0..1.
    """

    only_a: int
    only_b: int
    p: float


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """Test whether two arms are right equally often (McNemar 1947), by the exact binomial of the discordant.

    Args:
        correct_a: bool [N].
        correct_b: bool [N], the same images.

    Raises:
        OptionError: the two have different lengths.
    """
    from scipy.stats import binomtest

    _same_length(correct_a, correct_b)
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a, only_b, float(p))


def paired_permutation(
    a: np.ndarray,
    b: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 42,
) -> float:
    """Return the two-sided p of mean(a) = mean(b), swapping a and b within images (groups swap whole).

    Args:
        a: a number an image, float64 [N].
        b: the same of the other arm.
        groups: what swaps together.
        permutations: random swaps; all 2^units are enumerated where that is fewer.
        seed: of the swaps.

    Raises:
        OptionError: lengths differ, or there are no images.
    """
    _same_length(a, b)
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if groups is not None:
        _same_length(np.asarray(groups), differences)
        differences = np.bincount(np.unique(groups, return_inverse=True)[1], differences).astype(np.float64)
    differences = differences[differences != 0]
    observed = abs(differences.sum())
    units = len(differences)
    # Sums of equal numbers in another order differ in the last bits; those are ties, not smaller values.
    bound = observed - 1e-9 * max(1.0, np.abs(differences).sum())
    if units < 63 and 2**units <= permutations:
        codes = np.arange(2**units)[:, None] >> np.arange(units) & 1
        return float((np.abs((1 - 2 * codes) @ differences) >= bound).mean())
    random = np.random.default_rng(seed)
    reached = 0
    for start in range(0, permutations, 1000):
        signs = random.integers(0, 2, (min(1000, permutations - start), units)) * 2 - 1
        reached += int((np.abs(signs @ differences) >= bound).sum())
    return (1 + reached) / (1 + permutations)


def swap_permutation(
    differences: Callable[[np.ndarray], np.ndarray],
    count: int,
    *,
    groups: Sequence[str] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 42,
) -> float:
    """Return the two-sided p of a difference that is no mean over images, such as that of a kappa.

    Args:
        differences: which images to swap between the arms, bool [R, N] -> the arms' difference then, [R]; NaN
            where it is not defined, which counts as reached (the cautious side).
        count: N.
        groups: what swaps together.
        permutations: random swaps.
        seed: of the swaps.
    """
    member = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    random = np.random.default_rng(seed)
    observed = abs(float(differences(np.zeros((1, count), dtype=bool))[0]))
    if np.isnan(observed):
        return float("nan")
    reached = 0
    for start in range(0, permutations, 2000):
        units = (min(2000, permutations - start), int(member.max()) + 1)
        found = differences(random.integers(0, 2, units).astype(bool)[:, member])
        reached += int((~(np.abs(found) < observed - 1e-9)).sum())
    return (1 + reached) / (1 + permutations)


def _same_length(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise OptionError(f"got values of shapes {a.shape} and {b.shape}; needed one an image, N >= 1, both")
