"""A signed sum of measured numbers, with its interval and its test: what every comparison here is.

    contrast = sum_k c_k * value_k,

such as an ablation's effect (ablated - full), how two models' effects differ, or how far zeroing all
registers exceeds the sum of zeroing each. All numbers come from the same images. The interval is a score
interval where the numbers are shares, Student's where they are not (:mod:`ttr.statistics.estimates`), over
images or whole groups. The test flips the sign of each image's own contribution, which is the paired
permutation test when there are two numbers, and asks for no more than contributions as likely positive as
negative under the null.

An accuracy is a mean over images, and an image's contribution is plain. A mean intersection-over-union is
not: it is a function of how often each image counts. Then the contribution is the image's jackknife
pseudo-value (Tukey 1958),

    u_i = N value(all) - (N - 1) value(all but i),

which for a mean is the image's own number, so that both kinds are one test and one interval; for other
statistics it is approximate, the better the smoother and the more images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttr.errors import OptionError
from ttr.statistics import estimates
from ttr.statistics.estimates import Estimate, Groups, Interval
from ttr.statistics.inference import PERMUTATIONS, paired_permutation, units_that_differ
from ttr.wording import counted

#: How often each image counts, float [R, N] -> the number then, float64 [R].
Statistic = Callable[[np.ndarray], np.ndarray]
#: A number an image, float [N] (NaN where it is not defined), whose mean is meant; or a statistic.
Measured = np.ndarray | Statistic
CHUNK = 500
#: Below it a sum of terms that cancel is none: they cancel but for the last bits of a float.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Contrast:
    """A signed sum of numbers.

    Attributes:
        value: of the sample.
        interval: 95 %, over images or groups.
        p: two-sided, of no contrast.
        n: images that took part.
        estimate: what interval and equivalence follow from.
        differing: images (groups) whose contribution is not 0; with fewer than 6 the test cannot fire.
    """

    value: float
    interval: Interval
    p: float
    n: int
    estimate: Estimate
    differing: int


def contrast(
    terms: Sequence[tuple[float, Measured]],
    *,
    count: int | None = None,
    groups: Groups = None,
    shares: bool = False,
    permutations: int = PERMUTATIONS,
    seed: int = 42,
) -> Contrast:
    """Return a signed sum of numbers with its interval and test.

    Args:
        terms: (sign or factor c_k, number). All are arrays, or all are statistics. An image whose number is
            NaN in any of the arrays is left out of all of them.
        count: N; needed with statistics alone.
        groups: of the images, N; flipped whole.
        shares: whether all numbers lie in 0..1, so that the sum is bounded by its factors.
        permutations: sign flips.
        seed: of the flips.

    Raises:
        OptionError: no terms, arrays of different lengths or mixed with statistics, or no image left.
    """
    if not terms:
        raise OptionError("got no numbers; needed at least one")
    value = None
    if any(callable(measured) for _, measured in terms):
        if count is None or not all(callable(measured) for _, measured in terms):
            raise OptionError("got statistics of resampled images; needed count=, and no arrays among them")
        statistic = _signed_sum(terms)
        value = float(statistic(np.ones((1, count)))[0])
        numbers = pseudo_values(statistic, count)
        if not np.isfinite(numbers).all():
            reason = "not defined without some of the images"
            unknown = estimates.Number(value, 0.0, count, 1.0)
            return Contrast(value, Interval(np.nan, np.nan, reason), np.nan, count, unknown, 0)
    else:
        numbers = _per_image(terms)
        kept = np.isfinite(numbers)
        if not kept.any():
            raise OptionError("no image has a number in every condition; nothing can be compared")
        if groups is not None and len(groups) != len(numbers):
            raise OptionError(
                f"got {counted(len(groups), 'group')} for {counted(len(numbers), 'image')}; give one an image"
            )
        groups = None if groups is None else [g for g, keep in zip(groups, kept, strict=True) if keep]
        numbers = numbers[kept]
    numbers = np.where(np.abs(numbers) < ROUNDING, 0.0, numbers)
    estimate = _estimate(terms, numbers, groups, value, shares)
    p = paired_permutation(
        numbers, np.zeros_like(numbers), groups=groups, permutations=permutations, seed=seed
    )
    differing = units_that_differ(numbers, groups)
    return Contrast(estimate.value, estimate.interval(), p, len(numbers), estimate, differing)


def _estimate(
    terms: Sequence[tuple[float, Measured]],
    numbers: np.ndarray,
    groups: Groups,
    value: float | None,
    shares: bool,
) -> Estimate:
    if not shares:
        return estimates.number(numbers, groups, value=value)
    up = sum(factor for factor, _ in terms if factor > 0)
    down = -sum(factor for factor, _ in terms if factor < 0)
    return estimates.difference(numbers, groups, bound=max(up, down), value=value)


def level(
    measured: Measured, *, count: int | None = None, groups: Groups = None, shares: bool = False
) -> tuple[float, Interval]:
    """Return a single number and its 95 % interval over images (groups); arguments as of ``contrast``."""
    if callable(measured):
        assert count is not None
        value = float(measured(np.ones((1, count)))[0])
        numbers = pseudo_values(measured, count)
        if not np.isfinite(numbers).all():
            return value, Interval(np.nan, np.nan, "not defined without some of the images")
        if not shares:
            return value, estimates.number(numbers, groups, value=value).interval()
        interval = estimates.share_of_variance(value, *estimates.spread(numbers, groups)).interval()
        return value, interval
    known = np.isfinite(measured)
    if not known.any():
        return np.nan, Interval(np.nan, np.nan, "not defined for any image")
    kept = None if groups is None else [group for group, there in zip(groups, known, strict=True) if there]
    numbers = np.asarray(measured, dtype=np.float64)[known]
    found = estimates.share(numbers, kept) if shares else estimates.number(numbers, kept)
    return float(numbers.mean()), found.interval()


def pseudo_values(statistic: Statistic, count: int) -> np.ndarray:
    """Return the jackknife pseudo-value of each image, float64 [count]; see the module.

    NaN where the statistic is not defined without the image.
    """
    whole = float(statistic(np.ones((1, count)))[0])
    without = []
    for start in range(0, count, CHUNK):
        left_out = np.arange(start, min(start + CHUNK, count))
        weights = np.ones((len(left_out), count))
        weights[np.arange(len(left_out)), left_out] = 0
        without.append(statistic(weights))
    return count * whole - (count - 1) * np.concatenate(without).astype(np.float64)


def _signed_sum(terms: Sequence[tuple[float, Measured]]) -> Statistic:
    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.sum([factor * measured(weights) for factor, measured in terms], axis=0)  # type: ignore[operator]

    return statistic


def _per_image(terms: Sequence[tuple[float, Measured]]) -> np.ndarray:
    arrays = [np.asarray(measured, dtype=np.float64) for _, measured in terms]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1 or arrays[0].ndim != 1:
        raise OptionError(f"got numbers of shapes {shapes}; needed one an image, of the same images, in all")
    return np.sum([factor * array for (factor, _), array in zip(terms, arrays, strict=True)], axis=0)
