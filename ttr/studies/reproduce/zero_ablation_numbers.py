"""The numbers that the zero-ablation study states, read from one model's ablation, and their order.

A condition's change from full stands beside its value, as ``registers:zero - full``. What the study says once
a model (effective rank, divergence and share of attention, probes of one register) comes from the ablation's
tables as they lie in its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ttr.statistics.verdict import Judged
from ttr.studies.ablate.conditions import CONTROL_PATCHES, FULL
from ttr.studies.reproduce import flow

#: The metric of ours that stands beside each of the study's tasks.
METRICS = {
    "probe": "top1",
    "knn": "recall_at_1",
    "correspondence": "nearest_patch",
    "segmentation": "miou",
}
SPAIR = "spair"
REGISTERS = tuple(f"registers:{substitute}" for substitute in ("zero", "mean", "noise", "shuffle"))
SINGLES = tuple(f"register-{index}:zero" for index in (1, 2, 3, 4))
CONDITIONS = (*REGISTERS, *SINGLES, "cls:zero", "cls:mean", f"patches-{CONTROL_PATCHES}:zero")
SUM = "sum of singles"
JS, JS_OF_MEAN, COSINE = "attention JS", "attention JS of the heads' mean", "patch cosine"
RANKS = {
    "effective_rank": "effective rank",
    "effective_rank_centred": "effective rank, centred",
    "effective_rank_singular": "effective rank, singular values",
}
TO_REGISTERS, OF_REGISTERS = "CLS to registers", "register probe"
TASKS = (*METRICS, SPAIR, JS, JS_OF_MEAN, COSINE, *RANKS.values(), TO_REGISTERS, OF_REGISTERS, flow.COSINE)
CHANGE = f" - {FULL.name}"
NAN = float("nan")
JUDGED = Judged().columns()
NOTHING = {"measured": NAN, "ci_low": NAN, "ci_high": NAN, "n": 0, "p": NAN, **JUDGED}
#: {(task, condition): measured, ci_low, ci_high, n, and of a change p and what it comes to}.
Numbers = dict[tuple[str, str], dict[str, Any]]


def of_task(results: pd.DataFrame, ours: str, metric: str, task: str) -> Numbers:
    """Return each condition's value and its change from full."""
    numbers: Numbers = {}
    for row in results[(results.task == ours) & (results.metric == metric)].itertuples():
        numbers[task, row.condition] = of_row(row.value, row)
        if row.condition != FULL.name:
            numbers[task, row.condition + CHANGE] = {
                **of_row(row.delta, row),
                "ci_low": row.delta_ci_low,
                "ci_high": row.delta_ci_high,
                "p": row.p,
                **{name: getattr(row, name) for name in JUDGED},
            }
    return numbers


def of_analyses(folder: Path, last: int) -> Numbers:
    """Return what the study says once a model, from the ablation's tables; a table may be missing."""
    numbers: Numbers = {}
    for row in flow.read(folder, "geometry"):
        task = RANKS.get(row.measure, COSINE)
        if row.condition in REGISTERS if task == COSINE else row.condition == FULL.name:
            numbers[task, row.condition] = of_row(row.value, row)
    for row in flow.read(folder, "divergence"):
        if (row.block, row.source) == (last, "patches") and row.condition in REGISTERS:
            numbers[JS, row.condition] = of_row(row.js, row)
            ends = {end: getattr(row, f"js_of_mean_{end}") for end in ("ci_low", "ci_high")}
            numbers[JS_OF_MEAN, row.condition] = {**of_row(row.js_of_mean, row), **ends}
    for row in flow.read(folder, "attention"):
        if (row.condition, row.block, row.source, row.target) == (FULL.name, last, "cls", "registers"):
            numbers[TO_REGISTERS, FULL.name] = of_row(row.share, row)
    for row in flow.read(folder, "probing"):
        if row.block == last and row.token.startswith("register-"):
            numbers[OF_REGISTERS, row.token] = of_row(row.accuracy, row)
    return numbers


def of_singles(folder: Path, images: int) -> Numbers:
    """Return the sum of zeroing one register at a time, of as many images as the probe was tested on."""
    numbers: Numbers = {}
    for row in flow.read(folder, "additivity"):
        if (row.task, row.metric, row.term) == ("probe", METRICS["probe"], "sum"):
            numbers["probe", SUM + CHANGE] = {
                **of_row(row.value, row),
                **{name: getattr(row, name) for name in JUDGED},
                "n": images,
                "p": row.p,
            }
    return numbers


def of_row(value: float, row: Any) -> dict[str, Any]:
    """Return a number with the interval and n of the row that it stands in."""
    return {
        **NOTHING,
        "measured": value,
        "ci_low": row.ci_low,
        "ci_high": row.ci_high,
        "n": getattr(row, "n", 0),
    }


def place_of(key: tuple[str, ...]) -> tuple[int, str, int, str, bool]:
    """Return where a task and condition stand among all, for sorting: a change follows its value."""
    task, condition = key
    base = condition.removesuffix(CHANGE)
    order = (FULL.name, *CONDITIONS, SUM)
    first = TASKS.index(task) if task in TASKS else len(TASKS)
    return first, task, order.index(base) if base in order else len(order), base, base != condition


def is_shown(task: str, condition: str) -> bool:
    """Return whether a number is worth a row where none was published: changes, full, and the analyses."""
    if "@" in condition:
        return False
    if task not in (*METRICS, SPAIR) or condition == FULL.name:
        return True
    return condition.endswith(CHANGE) and (task == "probe" or condition.removesuffix(CHANGE) not in SINGLES)
