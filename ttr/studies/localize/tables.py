"""A localisation as tables: each arm's score beside chance, differences between arms, and image by image.

Two kinds of difference are two questions, each a family of its own with every metric of a method: what an arm
does to a map (its pairs are those of :data:`PAIRS`), and whether an arm's map beats one that no model made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ttr.evaluate.insertion import SHARES
from ttr.statistics.contrasts import Contrast, contrast, level
from ttr.statistics.estimates import Groups
from ttr.statistics.inference import PERMUTATIONS
from ttr.statistics.verdict import MARGIN, judge_families
from ttr.studies.bench.tables import PAIRS
from ttr.studies.localize.localisation import BASELINES, Kind, Localisation

COLUMNS = ("arm", "method", "metric", "value", "ci_low", "ci_high", "n", "baseline")
#: Thirds of the images by the share of their outline.
SIZES = ("small", "medium", "large")
#: The two questions that differences answer.
BETWEEN, AGAINST = "between arms", "against baselines"


def localisation(found: Localisation) -> pd.DataFrame:
    """Return one row an arm, method and metric, with the columns :data:`COLUMNS`.

    ``ci_low`` and ``ci_high`` are 95 % over images, or groups; ``baseline`` is what a random map scores by
    that metric. The last rows are the baselines: arms ``random-map`` and ``centre-map``, method ``baseline``.
    """
    everywhere = np.ones(len(found.items), dtype=bool)
    return pd.DataFrame(_rows(found, everywhere, found.groups), columns=list(COLUMNS))


def by_size(found: Localisation) -> pd.DataFrame:
    """Return the same for each third of the images by the share of their outline; ``size`` says which."""
    sizes, groups = size_groups(found.shares), found.groups
    parts = []
    for size in SIZES:
        here = sizes == size
        if here.any():
            own = None if groups is None else tuple(np.array(groups)[here].tolist())
            parts.append(pd.DataFrame(_rows(found, here, own), columns=list(COLUMNS)).assign(size=size))
    return pd.concat(parts, ignore_index=True)


def differences(
    found: Localisation, *, margin: float = MARGIN, permutations: int = PERMUTATIONS, seed: int = 42
) -> pd.DataFrame:
    """Return the differences between arms on the same images, and those of each arm from the baselines.

    Columns: method, metric, first, second, difference (first - second), ci_low, ci_high (95 %), p (paired
    permutation over images, or whole groups), n, family, and what follows from it as
    :class:`ttr.statistics.verdict.Judged` says: p_holm, verdict, tests, margin, p_equivalent, needed,
    smallest_detectable.
    """
    rows: list[dict[str, Any]] = []
    contrasts: list[Contrast] = []
    for family, first, second in _compared(found):
        others = found.beside(second, first[0]) if second in BASELINES else found.values[second]
        for metric, values in found.values[first].items():
            each = contrast(
                [(1.0, values), (-1.0, others[metric])],
                groups=found.groups,
                shares=True,
                permutations=permutations,
                seed=seed,
            )
            rows.append(
                {
                    "method": first[1],
                    "metric": metric,
                    "first": first[0],
                    "second": second[0],
                    "difference": each.value,
                    "ci_low": each.interval.low,
                    "ci_high": each.interval.high,
                    "p": each.p,
                    "n": each.n,
                    "family": f"{first[1]}, {family}",
                }
            )
            contrasts.append(each)
    table = pd.DataFrame(rows)
    judged = judge_families(contrasts, table["family"], margin)
    return table.join(pd.DataFrame([each.columns() for each in judged]))


def by_image(found: Localisation) -> pd.DataFrame:
    """Return one row an image, arm, method and metric: image, arm, method, metric, value, share, size."""
    parts = [
        pd.DataFrame(
            {
                "image": [item.name for item in found.items],
                "arm": arm,
                "method": method,
                "metric": metric,
                "value": values,
                "share": found.shares,
                "size": size_groups(found.shares),
            }
        )
        for (arm, method), metrics in found.values.items()
        for metric, values in metrics.items()
    ]
    return pd.concat(parts, ignore_index=True)


def curves(found: Localisation) -> pd.DataFrame:
    """Return one row an arm, method, curve and share of the patches, with the label's mean probability.

    Columns: arm, method (or random-map, centre-map: maps that no model made, under that arm), curve, share,
    value, ci_low, ci_high (95 % over images, or groups), n.
    """
    rows = []
    for (arm, method), followed in found.curves.items():
        for curve, along in zip(found.curve_names, followed.transpose(1, 2, 0), strict=True):
            for share, values in zip(SHARES, along, strict=True):
                value, interval = level(values, groups=found.groups, shares=True)
                rows.append((arm, method, curve, share, value, interval.low, interval.high, len(values)))
    names = ["arm", "method", "curve", "share", "value", "ci_low", "ci_high", "n"]
    return pd.DataFrame(rows, columns=names)


def size_groups(shares: np.ndarray) -> np.ndarray:
    """Return which of :data:`SIZES` each image is by its share; equal shares go together."""
    third, two_thirds = np.quantile(shares, [1 / 3, 2 / 3])
    return np.where(shares <= third, SIZES[0], np.where(shares <= two_thirds, SIZES[1], SIZES[2]))


def _rows(found: Localisation, here: np.ndarray, groups: Groups) -> Iterator[tuple[Any, ...]]:
    for (arm, method), metrics in found.values.items():
        chance = found.beside(BASELINES[0], arm)
        for metric, values in metrics.items():
            value, interval = level(values[here], groups=groups, shares=True)
            ends = (interval.low, interval.high)
            yield arm, method, metric, value, *ends, int(here.sum()), float(chance[metric][here].mean())


def _compared(found: Localisation) -> Iterator[tuple[str, Kind, Kind]]:
    """Yield each comparison: what it asks, and the two."""
    for method in dict.fromkeys(method for _, method in found.kinds):
        arms = [arm for arm, own in found.kinds if own == method]
        for first, second in PAIRS:
            if first in arms and second in arms:
                yield BETWEEN, (first, method), (second, method)
        for arm in arms:
            for baseline in BASELINES:
                yield AGAINST, (arm, method), baseline
