"""What follows from a benchmark's predictions alone: its tables, kept beside the features.

Thousands of resamples and permutations take longer than everything else in a repeated run. They follow from
the predictions, the groups and a few names, so they are kept under the digest of those, of the code that
computes them and of the libraries behind it (:mod:`ttr.features.memo`): another prediction or another line of
code is another digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ttr.features.memo import computed_once, digest_of_all, source_digest
from ttr.statistics.inference import PERMUTATIONS, RESAMPLES
from ttr.statistics.verdict import MARGIN
from ttr.studies.bench.benchmark import Benchmark
from ttr.studies.bench.tables import comparisons, results

SEED = 42
#: Whose source decides the numbers.
CODE = source_digest(
    "ttr.studies.bench.statistics",
    "ttr.studies.bench.tables",
    "ttr.studies.bench.differences",
    "ttr.studies.bench.intervals",
    "ttr.evaluate.metrics",
    "ttr.evaluate.resampled",
    "ttr.features.memo",
    "ttr.statistics.contrasts",
    "ttr.statistics.estimates",
    "ttr.statistics.inference",
    "ttr.statistics.score_intervals",
    "ttr.statistics.verdict",
)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Tables as in :mod:`ttr.studies.bench.tables`.

    Attributes:
        results: a row a metric of an outcome.
        comparisons: a row a pair of arms and metric.
    """

    results: pd.DataFrame
    comparisons: pd.DataFrame


def statistics(bench: Benchmark, backbone: str, cache: Path, margin: float = MARGIN) -> Statistics:
    """Return the statistics of a benchmark with a backbone of that name, from the cache where they are there.

    ``margin``: of equivalence, a share.

    Raises:
        OutputError: the cache cannot be written.
    """
    found = computed_once(
        cache / "statistics", _digest(bench, backbone, margin), lambda: _computed(bench, backbone, margin)
    )
    return Statistics(pd.DataFrame(found["results"]), pd.DataFrame(found["comparisons"]))


def _computed(bench: Benchmark, backbone: str, margin: float) -> dict[str, Any]:
    options: dict[str, Any] = {"resamples": RESAMPLES, "seed": SEED}
    scores = results(bench, backbone, **options)
    differences = comparisons(bench, backbone, margin=margin, permutations=PERMUTATIONS, **options)
    return {"results": scores.to_dict("list"), "comparisons": differences.to_dict("list")}


def _digest(bench: Benchmark, backbone: str, margin: float = MARGIN) -> str:
    dataset = bench.dataset
    values = {
        "backbone": backbone,
        "dataset": [dataset.name, dataset.classes, dataset.ordinal],
        "groups": bench.groups,
        "outcomes": [
            [o.arm.name, o.arm.kind, o.arm.num_registers, o.feature, o.head, o.seed] for o in bench.outcomes
        ],
        "settings": [RESAMPLES, PERMUTATIONS, SEED, margin],
    }
    arrays: list[np.ndarray] = []
    for outcome in bench.outcomes:
        arrays += [outcome.predictions.targets, outcome.predictions.probabilities]
    return digest_of_all(values, arrays, CODE, LIBRARIES)
