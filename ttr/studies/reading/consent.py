"""Where readers agree: with each other, with themselves, and on which map they would rather have.

``agreement.csv``: who, condition, alpha, ci_low, ci_high, agreed, cases, p; the rows ``after - before`` and
``before - none``, ... are differences, whose test swaps the two conditions' answers of a case.
``preference.csv``: reader (``all``: over readers and cases), after, before, neither, and what it comes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ttr.statistics.contrasts import Contrast
from ttr.statistics.inference import RESAMPLES, bootstrap_interval, resample_weights, swap_permutation
from ttr.statistics.reader_agreement import agreement, alphas, coincidences
from ttr.statistics.readers_and_cases import over_readers_and_cases
from ttr.studies.reading.joined import crossed, of_kind
from ttr.studies.reading.measures import judged_table
from ttr.studies.reading.order import MARGIN, preference

PERMUTATIONS = 2000
BETWEEN, ALL = "between readers", "all"


def agreement_table(
    table: pd.DataFrame, answers: Sequence[str], conditions: Sequence[str], *, seed: int = 42
) -> pd.DataFrame:
    """Return how far readers agree; see the module."""
    coded = table.assign(code=pd.Series([_code(a, answers) for a in table["answer"]], table.index))
    rows = []
    values, readers = crossed(coded, "code", conditions)
    if len(readers) > 1 and values.shape[2]:
        codes = values.astype(int)
        rows += [_row(BETWEEN, name, codes[place], seed) for place, name in enumerate(conditions)]
        rows += [
            _difference(f"{conditions[b]} - {conditions[a]}", codes[b], codes[a], seed)
            for a, b in combinations(range(len(conditions)), 2)
        ]
    for reader in sorted(set(table["reader"]), key=lambda name: int(name[1:])):
        twice = _read_twice(coded[coded["reader"] == reader])
        if twice.size:
            rows.append(_row(reader, "read twice", twice, seed))
    columns = ["who", "condition", "alpha", "ci_low", "ci_high", "agreed", "cases", "p"]
    return pd.DataFrame(rows, columns=columns)


def preference_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return which map is preferred by all, and by each reader with the exact binomial test."""
    pairs = table[table["kind"] == "pair"]
    values, _ = of_kind(table, "pair", table["for_after"].to_numpy())
    rows: list[dict[str, Any]] = []
    found: list[Contrast] = []
    if values.size and values.shape[1] >= 2:
        rows.append({"reader": ALL, "family": ALL, **_counts(pairs["for_after"])})
        found.append(over_readers_and_cases(values, bound=1.0))
    for reader in sorted(set(pairs["reader"]), key=lambda name: int(name[1:])):
        own = pairs.loc[pairs["reader"] == reader, "for_after"]
        each = preference(own)
        if each is not None:
            rows.append({"reader": reader, "family": "each", **_counts(own)})
            found.append(each)
    return judged_table(rows, ["reader", "after", "before", "neither"], found, MARGIN)


def _counts(values: pd.Series) -> dict[str, int]:
    return {
        "after": int((values > 0).sum()),
        "before": int((values < 0).sum()),
        "neither": int((values == 0).sum()),
    }


def _code(answer: str, answers: Sequence[str]) -> float:
    return float(answers.index(answer)) if answer in answers else np.nan


def _row(who: str, condition: str, codes: np.ndarray, seed: int) -> dict[str, object]:
    found = agreement(codes, seed=seed)
    ends = {"ci_low": found.interval.low, "ci_high": found.interval.high}
    return {
        "who": who,
        "condition": condition,
        "alpha": found.alpha,
        **ends,
        "agreed": found.agreed,
        "cases": found.cases,
    }


def _difference(name: str, first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, object]:
    kinds = max(int(first.max()), int(second.max())) + 1
    pairs = []
    for codes in (first, second):
        own = coincidences(codes)
        room = kinds - own.shape[1]
        pairs.append(np.pad(own, ((0, 0), (0, room), (0, room))))
    a, b = pairs

    def apart(weights_a: np.ndarray, weights_b: np.ndarray) -> np.ndarray:
        sums = [
            alphas(np.einsum("bc,ckl->bkl", x, a) + np.einsum("bc,ckl->bkl", y, b))
            for x, y in ((weights_a, weights_b), (weights_b, weights_a))
        ]
        return sums[0] - sums[1]

    count = first.shape[1]
    drawn = resample_weights(count, resamples=RESAMPLES, seed=seed).astype(float)
    nothing = np.zeros((1, count))
    value = float(apart(nothing + 1, nothing)[0])
    interval = bootstrap_interval(value, apart(drawn, np.zeros_like(drawn)))
    p = swap_permutation(
        lambda swap: apart((~swap).astype(float), swap.astype(float)),
        count,
        permutations=PERMUTATIONS,
        seed=seed,
    )
    ends = {"ci_low": interval.low, "ci_high": interval.high}
    return {"who": BETWEEN, "condition": name, "alpha": value, **ends, "cases": count, "p": p}


def _read_twice(own: pd.DataFrame) -> np.ndarray:
    """Return a reader's answers to what was shown twice, int [2, C]."""
    again = own[own["kind"] == "repeat"]
    if not len(again):
        return np.empty((2, 0), dtype=int)
    reads = own[own["kind"] == "read"].set_index(["case", "session"])["code"]
    first = reads.reindex(pd.MultiIndex.from_frame(again[["case", "session"]])).to_numpy(float)
    both = np.stack([first, again["code"].to_numpy(float)])
    return both[:, np.isfinite(both).all(axis=0)].astype(int)
