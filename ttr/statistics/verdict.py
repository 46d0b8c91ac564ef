"""What differences come to, decided in one place and said everywhere the same.

A family is all tests that answer one question: every metric and condition of it. A test that could not have
come out below .05 whatever its data, since too few images differ, is no test and is left out (Tarone 1990);
the others are corrected by Holm (1979). So are the tests of equivalence, two one-sided ones each (Schuirmann
1987), of a margin that was stated beforehand. Then a difference is

    higher, lower         its corrected p is below .05 and its 95 % interval leaves zero out
    equivalent            else, if the corrected p of |difference| >= margin is below .05
    not distinguishable   everything else: these images do not tell, and it is said how many would

*Not distinguishable* is no evidence that nothing changed; *equivalent* is. A surely higher or lower number
can be within the margin as well: ``p_equivalent`` says so. At most one of the two nulls of a comparison is
true, and each kind is held to 5 % over its family.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ttr.checks import share_of_one
from ttr.statistics.contrasts import Contrast
from ttr.wording import counted, measured

ALPHA = 0.05
#: Of equivalence: one point, the margin that Parodi et al. (2026) call preserved.
MARGIN = 0.01
#: Least units that differ with which 2 / 2^units, the least p of a paired test, is below :data:`ALPHA`.
FEWEST = 6
HIGHER, LOWER, EQUIVALENT, OPEN = "higher", "lower", "equivalent", "not distinguishable"
Verdict = Literal["higher", "lower", "equivalent", "not distinguishable", ""]
TOLD = (HIGHER, LOWER)
NAN = math.nan


@dataclass(frozen=True)
class Judged:
    """What one difference comes to within its family.

    Attributes:
        p_holm: corrected p of no difference; NaN for a test that was left out.
        verdict: empty where there was nothing to compare.
        tests: how many tests the family has, without those left out.
        margin: of equivalence; NaN where none makes sense.
        p_equivalent: corrected p of a difference as large as the margin; NaN where it cannot be shown.
        needed: where it is not distinguishable, images that would tell (power .8).
        smallest_detectable: difference that the corrected test shows with power .8.
    """

    p_holm: float = NAN
    verdict: Verdict = ""
    tests: int = 0
    margin: float = NAN
    p_equivalent: float = NAN
    needed: float = NAN
    smallest_detectable: float = NAN

    def columns(self) -> dict[str, Any]:
        """Return them as columns of a table."""
        return asdict(self)


def judge(family: Sequence[Contrast | None], margin: float | Sequence[float] = MARGIN) -> list[Judged]:
    """Return what each difference of a family comes to; None (nothing to compare) is no test.

    Args:
        family: all differences that answer one question.
        margin: of equivalence, in the differences' unit; or one each, NaN for none.
    """
    margins = [margin] * len(family) if isinstance(margin, (int, float)) else list(margin)
    p = holm([each.p if each is not None and fires(each) else NAN for each in family])
    equivalent = holm([_p_equivalent(each, m) for each, m in zip(family, margins, strict=True)])
    tests = int(np.isfinite(np.asarray(p, dtype=float)).sum())
    level = ALPHA / max(tests, 1)
    # With the images that are needed every test of equivalence can be passed, so that all of them count.
    within_level = ALPHA / max(
        sum(each is not None and m > 0 for each, m in zip(family, margins, strict=True)), 1
    )
    judged = []
    for each, own, within, m in zip(family, p, equivalent, margins, strict=True):
        if each is None:
            judged.append(Judged(tests=tests, margin=m))
            continue
        name = verdict(each.interval.low, each.interval.high, own, within)
        # NaN comes first, and stays: whatever the formula says, no test of fewer than FEWEST fires.
        needed = max(each.estimate.needed(m, level, within_level), FEWEST) if name == OPEN else NAN
        smallest = each.estimate.detectable(level)
        judged.append(Judged(own, name, tests, m, within, needed, smallest))
    return judged


def judge_families(
    found: Sequence[Contrast | None], families: Iterable[str], margin: float | Sequence[float] = MARGIN
) -> list[Judged]:
    """Return what differences come to, each within the family that is named beside it."""
    named = list(families)
    margins = [margin] * len(found) if isinstance(margin, (int, float)) else list(margin)
    judged = [Judged()] * len(found)
    for family in dict.fromkeys(named):
        places = [place for place, name in enumerate(named) if name == family]
        for place, each in zip(
            places, judge([found[i] for i in places], [margins[i] for i in places]), strict=True
        ):
            judged[place] = each
    return judged


def verdict(low: float, high: float, p_holm: float, p_equivalent: float = NAN) -> Verdict:
    """Return what a difference comes to, from its 95 % interval and its two corrected p-values."""
    if p_holm < ALPHA and (low > 0 or high < 0):
        return "higher" if low > 0 else "lower"
    return "equivalent" if p_equivalent < ALPHA else "not distinguishable"


def fires(found: Contrast) -> bool:
    """Return whether enough images differ that a test of them can come out below .05."""
    return found.differing >= FEWEST


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values, in the given order; NaN stays NaN and is no test.

    adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), p sorted ascending.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * p[order]))
    return adjusted.tolist()


def said(row: Any, *, points: bool = True, inside: bool = False) -> str:
    """Return a verdict in words, from a row of a table with the columns of :class:`Judged`.

    ``points``: the difference is one of shares; else its margin stands as the number that it is.
    ``inside``: it stands in brackets, and has none of its own.
    Tables of earlier versions have neither ``margin`` nor ``needed``.
    """
    found = row if isinstance(row, Mapping) else row._asdict()
    name, margin, needed = found["verdict"], found.get("margin", NAN), found.get("needed", NAN)
    if name == EQUIVALENT:
        return f"{EQUIVALENT} within {measured(100 * margin, 'point') if points else f'{margin:.4g}'}"
    if name == OPEN and needed == needed:
        return f"{OPEN}; needs {needed:,.0f} images" if inside else f"{OPEN} (needs {needed:,.0f} images)"
    return name


def family_said(rows: Sequence[Mapping[str, Any]], question: str) -> str:
    """Return over how many tests a family was corrected, and how many could not have fired."""
    tests = int(rows[0].get("tests", 0)) if rows else 0
    left_out = sum(1 for row in rows if row["verdict"]) - tests
    said = f"{question}: Holm over {counted(tests, 'test')}"
    if left_out <= 0:
        return said
    return f"{said}; {left_out} left out, since fewer than {FEWEST} images (groups) differ"


def check_margin(margin: float) -> float:
    """Return a margin of equivalence, a share above 0 and below 1, or raise OptionError."""
    return share_of_one("margin", margin)


def _p_equivalent(found: Contrast | None, margin: float) -> float:
    """Return the p of equivalence, NaN where not even equal images would show it: that is no test."""
    if found is None or not found.estimate.least_p_equivalent(margin) < ALPHA:
        return NAN
    return found.estimate.p_equivalent(margin)
