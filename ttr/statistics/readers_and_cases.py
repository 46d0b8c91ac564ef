"""Several readers, several cases: how sure a number is of other readers and other cases.

Every reader reads every case (fully crossed). Of each there is a number y_rc: right or wrong, the logarithm
of a time, or, for an area under the ROC curve, the jackknife pseudo-value of the case within that reader.
With readers and cases both drawn at random (Dorfman, Berbaum and Metz 1992; Hillis 2007),

    v = (MS_R + max(MS_C - MS_RC, 0)) / (R C),        df = (MS_R + max(MS_C - MS_RC, 0))^2 (R - 1) / MS_R^2,

the mean squares being those of the two-way layout. A difference of two conditions is the same of the
differences y_rc(first) - y_rc(second), which is the test of the two conditions in that model. A single reader
is taken as given: then the cases alone are random.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ttr.errors import OptionError
from ttr.statistics.contrasts import Contrast
from ttr.statistics.estimates import Number


def over_readers_and_cases(values: np.ndarray, *, bound: float = math.inf) -> Contrast:
    """Return the mean with its interval over readers and cases, and the two-sided t test that it is 0.

    Args:
        values: y_rc, float [R, C], R >= 1, C >= 2, without NaN.
        bound: largest mean that is possible, which the interval does not pass.

    Raises:
        OptionError: another shape, or a value that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise OptionError(
            f"got values of shape {values.shape}; needed one a reader and case, two cases or more, all finite"
        )
    from scipy.stats import t

    variance, degrees = _variance(values)
    mean = float(values.mean())
    found = Number(mean, math.sqrt(variance), values.shape[1], degrees)
    differing = int((values != 0).sum())  # a t test can fire with few cases, if readers are several
    p = 1.0 if mean == 0 else math.nan
    if variance > 0:
        p = float(2 * t.sf(abs(mean) / found.error, degrees))
    interval = found.interval()
    interval = replace(interval, low=max(interval.low, -bound), high=min(interval.high, bound))
    return Contrast(mean, interval, p, values.shape[1], found, differing)


def _variance(values: np.ndarray) -> tuple[float, float]:
    """Return the variance of the mean and its degrees of freedom; 0 where nothing differs."""
    readers, cases = values.shape
    if readers == 1:
        return float(values.var(ddof=1)) / cases, cases - 1.0
    of_readers, of_cases = values.mean(axis=1), values.mean(axis=0)
    rest = values - of_readers[:, None] - of_cases + values.mean()
    by_reader = cases * float(of_readers.var(ddof=1))
    by_case = readers * float(of_cases.var(ddof=1))
    by_both = float((rest**2).sum()) / ((readers - 1) * (cases - 1))
    whole = by_reader + max(by_case - by_both, 0.0)
    if whole < 1e-24 * max(1.0, float(np.abs(values).max()) ** 2):  # equal numbers differ in their last bits
        return 0.0, readers - 1.0
    most = float(values.size - 1)
    degrees = min((readers - 1) * (whole / by_reader) ** 2, most) if by_reader > 0 else most
    return whole / values.size, degrees


def auc_pseudo_values(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the jackknife pseudo-values of an area under the ROC curve, float [C]; their mean is the area.

    Ties count half. NaN where there are fewer than two cases of a kind.

    Args:
        scores: of each case, higher for a surer yes, float [C].
        positive: whether its truth is yes, bool [C].
    """
    count, found = len(scores), np.full(len(scores), np.nan)
    yes, no = scores[positive], scores[~positive]
    if min(len(yes), len(no)) < 2:
        return found
    wins = (yes[:, None] > no) + 0.5 * (yes[:, None] == no)
    area, total = wins.mean(), wins.sum()
    without_yes = (total - wins.sum(axis=1)) / ((len(yes) - 1) * len(no))
    without_no = (total - wins.sum(axis=0)) / (len(yes) * (len(no) - 1))
    found[positive] = count * area - (count - 1) * without_yes
    found[~positive] = count * area - (count - 1) * without_no
    return found
