"""The benchmark as tables: every metric with its interval, every pair of arms with its tests, every answer.

``results``: one row an arm, feature, head, seed and metric. ``comparisons``: one row a pair of arms; numbers
of several seeds (and draws of random neurons) are averaged image by image before they are compared, so that
a lucky seed is no evidence. McNemar's test needs one answer an image and takes the first seed and draw; it
takes images for independent evidence, so it is left out where several images are of one group.
``predictions``: what each head said of each test image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.evaluate.metrics import METRICS, Predictions, metric
from ttr.evaluate.resampled import resampled
from ttr.statistics.inference import (
    PERMUTATIONS,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    holm,
    mcnemar,
    paired_permutation,
    resample_weights,
    smallest_detectable_difference,
    swap_permutation,
    verdict,
)
from ttr.studies.bench.benchmark import Benchmark, Outcome

#: (first, second): the differences first - second that answer a question; see :mod:`ttr.registers.arms`.
PAIRS = (
    ("ttr", "plain"),
    ("ttr", "token"),
    ("token", "plain"),
    ("neurons", "plain"),
    ("ttr", "random"),
    ("random", "plain"),
    ("attention-bias", "plain"),
    ("ttr", "attention-bias"),
    ("neurons", "random-neurons"),
    ("random-neurons", "plain"),
)

#: A calibrated head's ece is lower than that of any of its resamples, so that no bootstrap covers it.
NO_INTERVAL = {"ece": "resampling only adds to a calibration error, so a bootstrap interval would mislead"}


def results(bench: Benchmark, backbone: str, *, resamples: int = RESAMPLES, seed: int = 42) -> pd.DataFrame:
    """Return every metric of every outcome, with its 95 % interval over the test images (groups).

    Columns: dataset, backbone, arm, head, seed, metric, value, ci_low, ci_high, n, feature, num_registers,
    reason (why a value or an interval is NaN).
    """
    weights = resample_weights(len(bench.test), groups=bench.groups, resamples=resamples, seed=seed)
    rows = []
    for outcome in bench.outcomes:
        for name in METRICS:
            found = metric(name, outcome.predictions)
            interval = Interval(float("nan"), float("nan"), found.reason or NO_INTERVAL.get(name, ""))
            if not interval.reason:
                interval = bootstrap_interval(found.value, resampled(name, outcome.predictions, weights))
            rows.append(
                {
                    "dataset": bench.dataset.name,
                    "backbone": backbone,
                    "arm": outcome.arm.name,
                    "head": outcome.head,
                    "seed": outcome.seed,
                    "metric": name,
                    "value": found.value,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "n": len(bench.test),
                    "feature": outcome.feature,
                    "num_registers": outcome.arm.num_registers,
                    "reason": found.reason or interval.reason,
                }
            )
    return pd.DataFrame(rows)


def comparisons(
    bench: Benchmark,
    backbone: str,
    *,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 42,
) -> pd.DataFrame:
    """Return the differences between arms on the same images, for top1 and the set's second metric.

    Columns: dataset, backbone, head, feature, num_registers, metric, first, second, difference (first -
    second), ci_low, ci_high, p (paired permutation), p_holm (over all rows of that metric), verdict, n; for
    top1 alone only_first, only_second, p_mcnemar, p_mcnemar_holm and smallest_detectable (with 80 % power, as
    if each group were one image). The second metric is ``qwk`` for ordinal classes, else
    ``balanced_accuracy``.
    """
    weights = resample_weights(len(bench.test), groups=bench.groups, resamples=resamples, seed=seed)
    rows = []
    for first, second, here in _pairs(bench):
        for name in ("top1", "qwk" if bench.dataset.ordinal else "balanced_accuracy"):
            row = {"dataset": bench.dataset.name, "backbone": backbone, **here, "metric": name}
            row |= _difference(name, first, second, bench.groups, weights, permutations, seed)
            rows.append({**row, "n": len(bench.test)})
    table = pd.DataFrame(rows)
    if len(table):
        for name in ("p", "p_mcnemar"):
            table[f"{name}_holm"] = table.groupby("metric")[name].transform(lambda p: holm(p.tolist()))
        table["verdict"] = [
            verdict(Interval(row.ci_low, row.ci_high), row.p_holm) for row in table.itertuples()
        ]
    return table


def predictions(bench: Benchmark) -> pd.DataFrame:
    """Return one row an outcome and test image; ``probabilities`` are in the order of the classes."""
    classes = bench.dataset.classes
    tables = [
        pd.DataFrame(
            {
                "image": bench.test,
                "arm": outcome.arm.name,
                "head": outcome.head,
                "seed": outcome.seed,
                "feature": outcome.feature,
                "num_registers": outcome.arm.num_registers,
                "label": [classes[target] for target in outcome.predictions.targets],
                "predicted": [classes[index] for index in outcome.predictions.predicted],
                "probabilities": outcome.predictions.probabilities.tolist(),
            }
        )
        for outcome in bench.outcomes
    ]
    return pd.concat(tables, ignore_index=True)


def _pairs(bench: Benchmark) -> Iterator[tuple[list[Predictions], list[Predictions], dict[str, Any]]]:
    """Yield each pair of arms as predictions matched by seed, every draw with every draw."""
    kinds: dict[tuple[str, str, str, int], list[Outcome]] = {}
    for outcome in bench.outcomes:
        place = (outcome.head, outcome.feature, outcome.arm.kind, outcome.arm.num_registers)
        kinds.setdefault(place, []).append(outcome)
    for (head, feature, kind, registers), own in kinds.items():
        for first, second in PAIRS:
            if first != kind:
                continue
            for (other_head, other_feature, other_kind, other_registers), others in kinds.items():
                if (other_head, other_feature, other_kind) != (head, feature, second):
                    continue
                # Arms with registers are compared at equal counts; those without stand for all.
                if registers and other_registers and registers != other_registers:
                    continue
                matched = [(a.predictions, b.predictions) for a in own for b in others if a.seed == b.seed]
                here = {"head": head, "feature": feature, "num_registers": registers or other_registers}
                names = {"first": first, "second": second}
                yield [a for a, _ in matched], [b for _, b in matched], {**here, **names}


def _difference(
    name: str,
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    groups: Sequence[str] | None,
    weights: np.ndarray,
    permutations: int,
    seed: int,
) -> dict[str, Any]:
    values = [np.mean([metric(name, each).value for each in arm]) for arm in (first, second)]
    resamples = [np.mean([resampled(name, each, weights) for each in arm], axis=0) for arm in (first, second)]
    interval = bootstrap_interval(float(values[0] - values[1]), resamples[0] - resamples[1])
    row: dict[str, Any] = {
        "difference": values[0] - values[1],
        "ci_low": interval.low,
        "ci_high": interval.high,
    }
    if name == "top1":
        right = [np.mean([each.correct for each in arm], axis=0) for arm in (first, second)]
        row["p"] = paired_permutation(*right, groups=groups, permutations=permutations, seed=seed)
        test = mcnemar(first[0].correct, second[0].correct)
        discordant = (test.only_a + test.only_b) / len(right[0])
        units = len(right[0] if groups is None else set(groups))
        p_mcnemar = test.p if units == len(right[0]) else float("nan")
        row |= {"only_first": test.only_a, "only_second": test.only_b, "p_mcnemar": p_mcnemar}
        row["smallest_detectable"] = smallest_detectable_difference(units, discordant)
    else:
        row["p"] = swap_permutation(
            lambda swapped: _swapped_differences(name, first, second, swapped),
            weights.shape[1],
            groups=groups,
            permutations=permutations,
            seed=seed,
        )
    return row


def _swapped_differences(
    name: str, first: Sequence[Predictions], second: Sequence[Predictions], swapped: np.ndarray
) -> np.ndarray:
    """Return the mean difference over matched predictions for each set of swaps, bool [R, N] -> [R].

    Every metric is one of weighted images, so an arm with some images swapped is both arms' images with
    weights 0 and 1.
    """
    kept = ~swapped
    total = np.zeros(len(swapped))
    for a, b in zip(first, second, strict=True):
        both = Predictions(
            np.concatenate([a.targets, b.targets]),
            np.concatenate([a.probabilities, b.probabilities]),
            a.ordinal,
        )
        total += resampled(name, both, np.hstack([kept, swapped]))
        total -= resampled(name, both, np.hstack([swapped, kept]))
    return total / len(first)
