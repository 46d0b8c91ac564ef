"""A signed sum of measured numbers, with its interval and its test: what every comparison here is.

    contrast = sum_k c_k * value_k,

such as an ablation's effect (ablated - full), how two models' effects differ, or how far zeroing all
registers exceeds the sum of zeroing each. All numbers come from the same images. The interval resamples
images (or whole groups). The test flips the sign of each image's own contribution, which is the paired
permutation test when there are two numbers, and asks for no more than contributions as likely positive as
negative under the null.

An accuracy is a mean over images, and an image's contribution is plain. A mean intersection-over-union is
not: it is a function of how often each image counts. Then the contribution is the image's jackknife
pseudo-value (Tukey 1958),

    u_i = N value(all) - (N - 1) value(all but i),

which for a mean is the image's own number, so that both kinds are one test; for other statistics it is
approximate, the better the smoother and the more images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttr.errors import OptionError
from ttr.statistics.inference import (
    PERMUTATIONS,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    paired_permutation,
    resample_weights,
)

#: How often each image counts, float [R, N] -> the number then, float64 [R].
Statistic = Callable[[np.ndarray], np.ndarray]
#: A number an image, float [N] (NaN where it is not defined), whose mean is meant; or a statistic.
Measured = np.ndarray | Statistic
CHUNK = 500


@dataclass(frozen=True)
class Contrast:
    """A signed sum of numbers.

    Attributes:
        value: of the sample.
        interval: 95 %, over images or groups.
        p: two-sided, of no contrast.
        n: images that took part.
    """

    value: float
    interval: Interval
    p: float
    n: int


def contrast(
    terms: Sequence[tuple[float, Measured]],
    *,
    count: int | None = None,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 42,
) -> Contrast:
    """Return a signed sum of numbers with its interval and test.

    Args:
        terms: (sign or factor c_k, number). All are arrays, or all are statistics. An image whose number is
            NaN in any of the arrays is left out of all of them.
        count: N; needed with statistics alone.
        groups: of the images, N; resampled and flipped whole.
        resamples: of the bootstrap.
        permutations: sign flips.
        seed: of both.

    Raises:
        OptionError: no terms, arrays of different lengths or mixed with statistics, or no image left.
    """
    if not terms:
        raise OptionError("got no numbers; needed at least one")
    if any(callable(measured) for _, measured in terms):
        if count is None or not all(callable(measured) for _, measured in terms):
            raise OptionError("got statistics of resampled images; needed count=, and no arrays among them")
        statistic = _signed_sum(terms)
        value = float(statistic(np.ones((1, count)))[0])
        values = statistic(resample_weights(count, groups=groups, resamples=resamples, seed=seed))
        shares = pseudo_values(statistic, count)
    else:
        shares = _per_image(terms)
        kept = np.isfinite(shares)
        if not kept.any():
            raise OptionError("no image has a number in every condition; nothing can be compared")
        if groups is not None and len(groups) != len(shares):
            raise OptionError(f"{len(groups)} groups were given for {len(shares)} images; give one an image")
        groups = None if groups is None else [g for g, keep in zip(groups, kept, strict=True) if keep]
        shares = shares[kept]
        weights = resample_weights(len(shares), groups=groups, resamples=resamples, seed=seed)
        value, values = float(shares.mean()), weights @ shares / weights.sum(axis=1)
    # A resample that draws each group once sums in another order; that is a tie, not a smaller value.
    values = np.where(np.isclose(values, value, rtol=1e-9, atol=0), value, values)
    nothing = np.zeros_like(shares)
    p = paired_permutation(shares, nothing, groups=groups, permutations=permutations, seed=seed)
    return Contrast(value, bootstrap_interval(value, values), p, len(shares))


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
