"""What intervals and tests of equivalence follow from: a number, and how many images it is worth.

Every number of a test set is taken as a mean over its N images (a statistic that is none by its jackknife
pseudo-values). Images of one group (patient) are alike, so that the variance of the mean is that of whole
groups (Obuchowski 1998), m groups with residual sums r_g,

    v = m / (m - 1) sum_g r_g^2 / N^2,        t with m - 1 degrees of freedom.

A share of variance v is as sure as one of n* = p (1 - p) / v independent images (Rao and Scott 1992; Korn and
Graubard 1998), a paired difference d with the share f of moved images as one of n* = (f - d^2) / v; these go
into the score intervals of :mod:`ttr.statistics.score_intervals`, which are Wilson's and Tango's own where
images are independent and right or wrong. Where no image differs from another v is 0 and says nothing: then
each group counts as one image, n* = N^2 / sum_g N_g^2 (Kish); but numbers that could have been any, and are
the same in every image, neither 0 nor 1, have no spread. A number without bounds has a t interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttr.statistics.score_intervals import critical, tango, tango_statistic, wilson
from ttr.wording import counted

CONFIDENCE = 0.95
POWER = 0.8
#: Below so many groups (images) a spread is known badly; said beside the interval.
FEW = 20
Groups = Sequence[str] | None


@dataclass(frozen=True)
class Interval:
    """An interval of a number.

    Attributes:
        low: its lower end, NaN where there is none.
        high: its upper end.
        reason: why there is none, else empty.
    """

    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class Share:
    """A share, 0..1, such as an accuracy or a macro average.

    Attributes:
        value: the share.
        effective: n*, independent images that it is worth.
        degrees: of freedom; infinite for right or wrong of independent images.
    """

    value: float
    effective: float
    degrees: float = math.inf

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return Wilson's interval for n* images."""
        return Interval(*wilson(self.value, self.effective, critical(confidence, self.degrees)))


@dataclass(frozen=True)
class Difference:
    """A signed sum of shares of the same images that cannot exceed ``bound``, such as ablated - full.

    Attributes:
        value: the sum, -bound..bound.
        moved: f, mean over the images of its absolute value over ``bound``, 0..1; of right and wrong, the
            share of discordant images.
        effective: n*, independent images that it is worth.
        n: images that took part.
        degrees: of freedom; infinite for right or wrong of independent images.
        bound: largest value that is possible.
    """

    value: float
    moved: float
    effective: float
    n: int
    degrees: float = math.inf
    bound: float = 1.0

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return Tango's interval for n* images."""
        low, high = tango(*self._sides, self.effective, critical(confidence, self.degrees))
        return Interval(self.bound * low, self.bound * high)

    def p_equivalent(self, margin: float) -> float:
        """Return the p of |difference| >= margin: the larger of two one-sided score tests (Tango 1998)."""
        if not 0 < margin / self.bound < 1:
            return math.nan
        above, below = (
            tango_statistic(*self._sides, self.effective, side * margin / self.bound) for side in (-1, 1)
        )
        return max(_tail(above, self.degrees), _tail(-below, self.degrees))

    def least_p_equivalent(self, margin: float) -> float:
        """Return the p of :meth:`p_equivalent` if not one image differed: no data can show more."""
        worth = max(self.effective, self.n) if math.isinf(self.degrees) else self.effective
        return Difference(0.0, 0.0, worth, self.n, self.degrees, self.bound).p_equivalent(margin)

    def detectable(self, alpha: float) -> float:
        """Return the smallest difference that a test at ``alpha`` shows (power .8), NaN where none is."""
        found = smallest_detectable_difference(self.effective, self.moved, alpha=alpha)
        return self.bound * found

    def needed(self, margin: float, alpha: float, within: float | None = None) -> float:
        """Return how many images would tell; see :func:`images_needed`."""
        within = alpha if within is None else within
        if not 0 < margin / self.bound < 1:
            return math.nan
        variance = self.n * max(self.moved - (self.value / self.bound) ** 2, 0) / self.effective
        found = images_needed(self.value / self.bound, variance, margin / self.bound, alpha, within)
        # Where nothing moves, Tango's variance at the margin is what is left to overcome.
        at_margin = (1 - margin / self.bound) / (margin / self.bound)
        return math.ceil(found + self.n / self.effective * _normal(1 - within) ** 2 * at_margin)

    @property
    def _sides(self) -> tuple[float, float]:
        value = self.value / self.bound
        return (self.moved + value) / 2, (self.moved - value) / 2


@dataclass(frozen=True)
class Number:
    """A mean without bounds, such as a norm or an effective rank.

    Attributes:
        value: the mean.
        error: its standard error; 0 where no image differs from another, which says nothing.
        n: images that took part.
        degrees: of freedom.
    """

    value: float
    error: float
    n: int
    degrees: float

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return Student's interval."""
        if not self.error > 0:
            return Interval(math.nan, math.nan, "no image differs from another: its spread is not known")
        half = critical(confidence, self.degrees) * self.error
        return Interval(self.value - half, self.value + half)

    def p_equivalent(self, margin: float) -> float:
        """Return the p of |number| >= margin: the larger one of two one-sided t tests (Schuirmann 1987)."""
        if not (self.error > 0 and margin > 0):
            return math.nan
        above, below = ((self.value - side * margin) / self.error for side in (-1, 1))
        return max(_tail(above, self.degrees), _tail(-below, self.degrees))

    def least_p_equivalent(self, margin: float) -> float:
        """Return 0: with no spread at all a number without bounds would be certain."""
        return 0.0 if margin > 0 else math.nan

    def detectable(self, alpha: float) -> float:
        """Return the smallest difference that a test at ``alpha`` shows (power .8), NaN where none is."""
        found = (_normal(1 - alpha / 2) + _normal(POWER)) * self.error
        return found if self.error > 0 else math.nan

    def needed(self, margin: float, alpha: float, within: float | None = None) -> float:
        """Return how many images would tell; see :func:`images_needed`."""
        within = alpha if within is None else within
        if not (self.error > 0 and margin > 0):
            return math.nan
        return math.ceil(images_needed(self.value, self.n * self.error**2, margin, alpha, within))


Estimate = Difference | Number


def share(numbers: np.ndarray, groups: Groups = None) -> Share:
    """Return the mean of numbers in 0..1, float [N], N >= 1, one an image."""
    value = float(np.clip(numbers.mean(), 0, 1))
    variance, degrees, worth = spread(numbers, groups)
    if not variance and len(numbers) > 1 and 0 < value < 1 and not _whole(numbers):
        return Share(value, math.inf, degrees)
    return _worth_of_share(value, variance, degrees, worth, _whole(numbers), groups, len(numbers))


def difference(
    numbers: np.ndarray, groups: Groups = None, *, bound: float = 1.0, value: float | None = None
) -> Difference:
    """Return the mean of numbers in -bound..bound, float [N], one an image.

    Args:
        numbers: one an image; pseudo-values where the number is no mean.
        groups: of the images.
        bound: of each number.
        value: the number itself, where it is no mean.
    """
    n, own = len(numbers), float(numbers.mean()) if value is None else value
    moved = float(np.abs(numbers).mean()) / bound
    found = difference_of_variance(own, moved, *spread(numbers / bound, groups), n, bound)
    if value is not None or bound != 1 or not _whole(numbers):
        return found
    if groups is None:
        return replace(found, effective=float(n), degrees=math.inf)
    return replace(found, effective=min(found.effective, n))


def number(numbers: np.ndarray, groups: Groups = None, *, value: float | None = None) -> Number:
    """Return the mean of numbers without bounds, float [N], one an image; arguments as of ``difference``."""
    variance, degrees, _ = spread(numbers, groups)
    return Number(
        float(numbers.mean()) if value is None else value, math.sqrt(variance), len(numbers), degrees
    )


def share_of_variance(value: float, variance: float, degrees: float, worth: float) -> Share:
    """Return a share whose variance is known from elsewhere, such as from resamples."""
    return _worth_of_share(value, variance, degrees, worth, False, None, math.inf)


def share_of_ratio(tops: np.ndarray, bottoms: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of sum(tops) / sum(bottoms), each float [N] >= 0, one an image.

    The ratio's variance is that of its residuals, m / (m - 1) sum (t - r b)^2 / (sum b)^2 over the m images
    with b > 0; a ratio of more than 1 is no share, and has a t interval.
    """
    kept = (bottoms > 0) | (tops > 0)
    tops, bottoms = tops[kept], bottoms[kept]
    units, ratio = len(tops), float(tops.sum() / bottoms.sum())
    worth = float(bottoms.sum() ** 2 / (bottoms**2).sum())
    degrees, variance = max(units - 1.0, 1.0), 0.0
    if units > 1:
        residuals = (tops - ratio * bottoms) / bottoms.sum()
        variance = units / (units - 1) * float((residuals**2).sum())
    if ratio > 1:
        half = critical(CONFIDENCE, degrees) * math.sqrt(variance)
        return max(ratio - half, 0.0), ratio + half
    found = (
        Share(ratio, worth)
        if not ratio
        else _worth_of_share(ratio, variance, degrees, worth, False, None, math.inf)
    )
    return found.interval().low, found.interval().high


def difference_of_variance(
    value: float, moved: float, variance: float, degrees: float, worth: float, n: int, bound: float = 1.0
) -> Difference:
    """Return a difference whose variance (of value / bound) is known from elsewhere; see ``difference``."""
    moved = min(max(moved, abs(value) / bound), 1.0)
    binomial = moved - (value / bound) ** 2
    effective = max(binomial / variance, 1.0) if variance > 0 and binomial > 0 else worth
    return Difference(value, moved, effective, n, degrees, bound)


def spread(numbers: np.ndarray, groups: Groups = None) -> tuple[float, float, float]:
    """Return the variance of the mean (0 where it cannot be seen), its degrees of freedom, and Kish's n*."""
    away: np.ndarray = numbers - numbers.mean()
    sizes: np.ndarray = np.ones(len(numbers))
    if groups is not None:
        member = np.unique(np.asarray(groups), return_inverse=True)[1]
        away, sizes = np.bincount(member, away), np.bincount(member)
    units = len(sizes)
    worth = float(len(numbers) ** 2 / (sizes**2).sum())
    if units < 2:
        return 0.0, 1.0, worth
    variance = units / (units - 1) * float((away**2).sum()) / len(numbers) ** 2
    # Equal numbers in float sums differ in their last bits.
    seen = variance > 1e-24 * max(1.0, float(np.abs(numbers).max()) ** 2)
    return variance if seen else 0.0, float(units - 1), worth


def few(count: int, groups: Groups, *, smallest_class: int | None = None) -> str:
    """Return what must be said beside an interval of so few images, groups, or images of a class; or ""."""
    units, what = (count, "image") if groups is None else (len(set(groups)), "group")
    said = []
    if units < FEW:
        said.append(f"{counted(units, what)} only: the interval rests on a spread that is known badly")
    if smallest_class is not None and smallest_class < FEW / 2:
        said.append(
            f"a class has {counted(smallest_class, 'test image')}: a macro average over so few is biased"
        )
    return "; ".join(said)


def smallest_detectable_difference(
    count: float, discordant: float, *, alpha: float = 0.05, power: float = POWER
) -> float:
    """Return the smallest difference of two paired proportions that ``count`` images would show, 0..1.

    Connor's (1987) sample size for McNemar's test, n = (z_a sqrt(f) + z_b sqrt(f - d^2))^2 / d^2, solved for
    the difference d, where f is the share of discordant images. NaN if not even d = f would be shown.

    Args:
        count: test images, n.
        discordant: f, 0..1; without any discordant image nothing can be said.
        alpha: two-sided level, of a family of tests the corrected one.
        power: chance to show the difference.
    """
    from scipy.optimize import brentq

    from ttr.errors import OptionError

    if count < 1 or not 0 <= discordant <= 1:
        raise OptionError(f"count={count}, discordant={discordant}; needed count >= 1 and 0..1")
    level, reach = _normal(1 - alpha / 2), _normal(power)

    def excess(d: float) -> float:
        spread = level * discordant**0.5 + reach * max(discordant - d**2, 0) ** 0.5
        return count * d**2 - spread**2

    if discordant == 0 or excess(discordant) < 0:
        return float("nan")
    return float(brentq(excess, 0, discordant))


def images_needed(value: float, variance: float, margin: float, alpha: float, within: float) -> float:
    """Return with how many images a difference as large as this one would be told, one way or the other.

    Told from zero, n = (z_{1-a/2} + z_b)^2 s^2 / d^2, or told to be within the margin,
    n = (z_{1-w} + z_{(1+b)/2})^2 s^2 / (m - |d|)^2, whichever is fewer, with a chance b of .8.

    Args:
        value: d.
        variance: s^2, of one image's number.
        margin: m.
        alpha: level a of the test of a difference, within its family.
        within: level w of the test of equivalence, within its family.
    """
    apart = abs(value)
    from_zero = to_margin = math.inf
    if apart > 0:
        from_zero = (_normal(1 - alpha / 2) + _normal(POWER)) ** 2 / apart**2
    if apart < margin:
        to_margin = (_normal(1 - within) + _normal((1 + POWER) / 2)) ** 2 / (margin - apart) ** 2
    fewest = min(from_zero, to_margin)
    return variance * fewest if math.isfinite(fewest) else math.nan


def _worth_of_share(
    value: float, variance: float, degrees: float, worth: float, whole: bool, groups: Groups, count: float
) -> Share:
    if whole and groups is None:
        return Share(value, float(count))
    binomial = value * (1 - value)
    effective = max(binomial / variance, 1.0) if variance > 0 and binomial > 0 else worth
    return Share(value, min(effective, count) if whole else effective, degrees)


def _whole(numbers: np.ndarray) -> bool:
    """Return whether all numbers are -1, 0 or 1: right or wrong, or a difference of two such."""
    return bool(np.isin(numbers, (-1.0, 0.0, 1.0)).all())


def _tail(statistic: float, degrees: float) -> float:
    from scipy.special import ndtr, stdtr

    return float(ndtr(-statistic) if math.isinf(degrees) else stdtr(degrees, -statistic))


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(level))
