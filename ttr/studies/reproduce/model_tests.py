"""The tests between models that a study published, again: does an ablation cost one model more than another?

Each is a paired permutation test of two models' effects (ablated - full) on the same images, 10,000 times
(:mod:`ttr.statistics.between_models`), with what was published beside it, a column of its own. A published p
may be a bound, and is therefore text. A p near 1 is no evidence of equal effects: the verdict stands beside
it, which says *equivalent* only where a test of equivalence says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ttr.errors import DataError, OptionError
from ttr.statistics.verdict import Judged
from ttr.studies.ablate.between import effects, read_per_image
from ttr.studies.ablate.conditions import FULL
from ttr.studies.reproduce.published import ModelTest

NAN = float("nan")
NOT_MEASURED: dict[str, Any] = {
    **{f"effect_{side}": NAN for side in "ab"},
    **{f"{side}_{end}": NAN for side in "ab" for end in ("ci_low", "ci_high")},
    **dict.fromkeys(("difference", "ci_low", "ci_high", "p"), NAN),
    "n": 0,
    **Judged().columns(),
}


def compare_models(
    tests: Sequence[ModelTest],
    folders: Mapping[str, Sequence[Path]],
    metrics: Mapping[str, str],
    lacking: Mapping[str, str],
    *,
    margin: float,
    seed: int,
) -> pd.DataFrame:
    """Return the published tests beside ours.

    Args:
        tests: what was published.
        folders: {backbone: the folders of its ablations, of which each task is in one}.
        metrics: {task: the metric that is compared}.
        lacking: {backbone or task: why it was not measured}.
        margin: of equivalence, a share.
        seed: of the permutations.

    Returns:
        A row each test, pair of models and task. Columns: question, model_a, model_b, task, metric,
        condition, published_p, missing, and those of :func:`ttr.studies.ablate.between.effects` from
        ``effect_a`` on. A family is a pair's tasks.
    """
    rows: list[dict[str, Any]] = []
    for test in tests:
        for names in test.pairs:
            found = _compared(test, names, folders, metrics, lacking, margin=margin, seed=seed)
            for task in test.tasks:
                numbers, missing = found[task]
                place = dict(zip(("question", "model_a", "model_b"), (test.question, *names), strict=True))
                place |= {"task": task, "metric": metrics[task], "condition": test.condition}
                rows.append({**place, "published_p": test.p, **numbers, "missing": missing})
    return pd.DataFrame(rows)


def _compared(
    test: ModelTest,
    names: tuple[str, str],
    folders: Mapping[str, Sequence[Path]],
    metrics: Mapping[str, str],
    lacking: Mapping[str, str],
    *,
    margin: float,
    seed: int,
) -> dict[str, tuple[dict[str, Any], str]]:
    """Return {task: (numbers, why there are none)} of one pair."""
    absent = [name for name in names if name not in folders]
    if absent:
        why = "; ".join(f"{name}: {lacking.get(name, 'it was not measured')}" for name in absent)
        return dict.fromkeys(test.tasks, (NOT_MEASURED, why))
    try:
        a, b = (
            pd.concat([_part(read_per_image(folder), test, metrics) for folder in folders[name]])
            for name in names
        )
        found = effects(a, b, names, margin=margin, seed=seed)
    except (DataError, OptionError) as error:
        return {task: (NOT_MEASURED, lacking.get(task, str(error))) for task in test.tasks}
    columns = list(NOT_MEASURED)
    measured = {row["task"]: {name: row[name] for name in columns} for row in found.to_dict("records")}
    nothing = f"{names[0]} and {names[1]} have no {test.condition} in common"
    return {
        task: (measured[task], "") if task in measured else (NOT_MEASURED, lacking.get(task, nothing))
        for task in test.tasks
    }


def _part(table: pd.DataFrame, test: ModelTest, metrics: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of the test's tasks, in full and under its condition."""
    asked = {(task, metrics[task]) for task in test.tasks}
    of_task = [pair in asked for pair in zip(table["task"], table["metric"], strict=True)]
    return table[np.array(of_task) & table["condition"].isin([FULL.name, test.condition])]
