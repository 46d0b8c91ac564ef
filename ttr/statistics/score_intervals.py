"""Score intervals of a share and of a paired difference of shares: at 0 and 100 % they keep their width.

A share p of n images, by Wilson (1927): all Delta with |p - Delta| <= c sqrt(Delta (1 - Delta) / n). A paired
difference d = b - c of the shares b (right under the first alone) and c (under the second alone), by Tango
(1998): all Delta with |T(Delta)| <= c,

    T(Delta) = sqrt(n) (d - Delta) / sqrt(2 q + Delta (1 - Delta)),
    4 q = sqrt(B^2 + 8 c Delta (1 - Delta)) - B,    B = (2 - d) Delta - b - c,

q being c's likeliest value where the difference is Delta. ``n`` need not be whole: shares of images that
belong together are worth fewer images (:mod:`ttr.statistics.estimates`).
"""

from __future__ import annotations

import math

#: Next to the estimate itself, where the equation of Tango's limits has a double root without discordance.
NEXT = 1e-9


def critical(confidence: float, degrees: float) -> float:
    """Return the two-sided quantile of Student's t, of the normal distribution for infinite ``degrees``."""
    from scipy.special import ndtri, stdtrit  # scipy.stats takes longer to import than a small study

    level = (1 + confidence) / 2
    return float(ndtri(level) if math.isinf(degrees) else stdtrit(degrees, level))


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's (1927) interval of a share, 0..1, of ``n`` images."""
    square = quantile**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n**2))
    # In float sums an end can pass the share itself by a last bit, as at 0 and 1.
    return min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)


def tango_statistic(first: float, second: float, n: float, difference: float) -> float:
    """Return Tango's (1998) T of a hypothetical difference, -1..1; near 0 where the data agree with it.

    Args:
        first: share of the images that are right under the first alone, 0..1.
        second: under the second alone.
        n: images.
        difference: Delta.
    """
    away = first - second - difference
    spread = _spread(first, second, difference)
    if spread <= 0:
        return math.copysign(math.inf, away) if away else 0.0
    return math.sqrt(n) * away / math.sqrt(spread)


def tango(first: float, second: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Tango's (1998) interval of first - second; arguments as in :func:`tango_statistic`."""
    from scipy.optimize import brentq

    difference = first - second

    def beyond(at: float) -> float:
        return n * (difference - at) ** 2 - quantile**2 * _spread(first, second, at)

    def end(side: int) -> float:
        near = difference + side * NEXT
        if side * near >= 1:
            return float(side)
        # Numbers that differ in their last digits have an end that is nearer than any step.
        return near if beyond(near) >= 0 else float(brentq(beyond, near, side))

    return end(-1), end(1)


def _spread(first: float, second: float, difference: float) -> float:
    """Return the variance of an image's difference where its mean is the hypothetical one."""
    b = (2 - first + second) * difference - first - second
    root = math.sqrt(max(b**2 + 8 * second * difference * (1 - difference), 0.0))
    return (root - b) / 2 + difference * (1 - difference)
