"""What follows from a benchmark's predictions alone: its tables and figures, kept beside the features.

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
from ttr.studies.bench import pictures
from ttr.studies.bench.benchmark import Benchmark
from ttr.studies.bench.tables import comparisons, results

SEED = 42
#: Whose source decides the numbers and the pictures.
CODE = source_digest(
    "ttr.studies.bench.statistics",
    "ttr.studies.bench.tables",
    "ttr.studies.bench.differences",
    "ttr.studies.bench.intervals",
    "ttr.studies.bench.pictures",
    "ttr.drawing.colours",
    "ttr.drawing.maps",
    "ttr.evaluate.metrics",
    "ttr.evaluate.resampled",
    "ttr.features.memo",
    "ttr.statistics.contrasts",
    "ttr.statistics.estimates",
    "ttr.statistics.inference",
    "ttr.statistics.score_intervals",
    "ttr.statistics.verdict",
)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "matplotlib", "pillow")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Tables as in :mod:`ttr.studies.bench.tables`, figures as data URIs.

    Attributes:
        results: a row a metric of an outcome.
        comparisons: a row a pair of arms and metric.
        forest: the differences in top1, empty without any.
        confusions: who is taken for whom.
    """

    results: pd.DataFrame
    comparisons: pd.DataFrame
    forest: str
    confusions: str


def statistics(bench: Benchmark, backbone: str, cache: Path, margin: float = MARGIN) -> Statistics:
    """Return the statistics of a benchmark with a backbone of that name, from the cache where they are there.

    ``margin``: of equivalence, a share.

    Raises:
        OutputError: the cache cannot be written.
    """
    found = computed_once(
        cache / "statistics", _digest(bench, backbone, margin), lambda: _computed(bench, backbone, margin)
    )
    tables = {name: pd.DataFrame(found[name]) for name in ("results", "comparisons")}
    return Statistics(**tables, forest=found["forest"], confusions=found["confusions"])


def _computed(bench: Benchmark, backbone: str, margin: float) -> dict[str, Any]:
    options: dict[str, Any] = {"resamples": RESAMPLES, "seed": SEED}
    scores = results(bench, backbone, **options)
    differences = comparisons(bench, backbone, margin=margin, permutations=PERMUTATIONS, **options)
    top1 = differences[differences.metric == "top1"] if len(differences) else []
    return {
        "results": scores.to_dict("list"),
        "comparisons": differences.to_dict("list"),
        "forest": pictures.forest(top1) if len(top1) else "",
        "confusions": pictures.confusions(bench),
    }


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
