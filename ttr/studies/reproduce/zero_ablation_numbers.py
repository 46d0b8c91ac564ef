"""One model's ablation in the words of the zero-ablation study: its tasks, its conditions, its other numbers.

A condition's change from full stands beside its value, as ``registers:zero - full``. What the study says once
a model (effective rank, divergence and share of attention, probes of one register) comes from the ablation's
tables as they lie in its folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.studies.ablate.conditions import CONTROL_PATCHES, FULL

#: The metric of ours that stands beside each of the study's tasks.
METRICS = {"probe": "top1", "correspondence": "nearest_patch", "segmentation": "miou"}
SPAIR, SPAIR_METRIC = "spair", "pck_0.1"
REGISTERS = tuple(f"registers:{substitute}" for substitute in ("zero", "mean", "noise", "shuffle"))
SINGLES = tuple(f"register-{index}:zero" for index in (1, 2, 3, 4))
CONDITIONS = (*REGISTERS, *SINGLES, "cls:zero", "cls:mean", f"patches-{CONTROL_PATCHES}:zero")
SUM = "sum of singles"
JS, COSINE, RANK = "attention JS", "patch cosine", "effective rank"
TO_REGISTERS, OF_REGISTERS = "CLS to registers", "register probe"
TASKS = (*METRICS, SPAIR, JS, COSINE, RANK, TO_REGISTERS, OF_REGISTERS)
CHANGE = f" - {FULL.name}"
NAN = float("nan")
NOTHING = {"measured": NAN, "ci_low": NAN, "ci_high": NAN, "n": 0, "p": NAN, "p_holm": NAN, "verdict": ""}
#: {(task, condition): measured, ci_low, ci_high, n, and of a change p, p_holm, verdict}.
Numbers = dict[tuple[str, str], dict[str, Any]]


def of_task(results: pd.DataFrame, ours: str, metric: str, task: str) -> Numbers:
    """Return each condition's value and its change from full."""
    numbers: Numbers = {}
    for row in results[(results.task == ours) & (results.metric == metric)].itertuples():
        numbers[task, row.condition] = _number(row.value, row)
        if row.condition != FULL.name:
            numbers[task, row.condition + CHANGE] = {
                **_number(row.delta, row),
                "ci_low": row.delta_ci_low,
                "ci_high": row.delta_ci_high,
                "p": row.p,
                "p_holm": row.p_holm,
                "verdict": row.verdict,
            }
    return numbers


def of_analyses(folder: Path, last: int) -> Numbers:
    """Return what the study says once a model, from the ablation's tables; a table may be missing."""
    numbers: Numbers = {}
    for row in _read(folder, "geometry"):
        task = RANK if row.measure == "effective_rank" else COSINE
        if row.condition == FULL.name if task == RANK else row.condition in REGISTERS:
            numbers[task, row.condition] = _number(row.value, row)
    for row in _read(folder, "divergence"):
        if (row.block, row.source) == (last, "patches") and row.condition in REGISTERS:
            numbers[JS, row.condition] = _number(row.js, row)
    for row in _read(folder, "attention"):
        if (row.condition, row.block, row.source, row.target) == (FULL.name, last, "cls", "registers"):
            numbers[TO_REGISTERS, FULL.name] = _number(row.share, row)
    for row in _read(folder, "probing"):
        if row.block == last and row.token.startswith("register-"):
            numbers[OF_REGISTERS, row.token] = _number(row.accuracy, row)
    return numbers


def of_singles(folder: Path, images: int) -> Numbers:
    """Return the sum of zeroing one register at a time, of as many images as the probe was tested on."""
    numbers: Numbers = {}
    for row in _read(folder, "additivity"):
        if (row.task, row.metric, row.term) == ("probe", METRICS["probe"], "sum"):
            numbers["probe", SUM + CHANGE] = {**_number(row.value, row), "n": images, "p": row.p}
    return numbers


def _read(folder: Path, name: str) -> Iterator[Any]:
    path = folder / f"{name}.csv"
    return pd.read_csv(path).itertuples() if path.exists() else iter(())


def _number(value: float, row: Any) -> dict[str, Any]:
    return {
        **NOTHING,
        "measured": value,
        "ci_low": row.ci_low,
        "ci_high": row.ci_high,
        "n": getattr(row, "n", 0),
    }


def place_of(key: tuple[str, ...]) -> tuple[int, int, str, bool]:
    """Return where a task and condition stand among all, for sorting: a change follows its value."""
    task, condition = key
    base = condition.removesuffix(CHANGE)
    order = (FULL.name, *CONDITIONS, SUM)
    return TASKS.index(task), order.index(base) if base in order else len(order), base, base != condition


def is_shown(task: str, condition: str) -> bool:
    """Return whether a number is worth a row where none was published: changes, full, and the analyses."""
    if task not in (*METRICS, SPAIR) or condition == FULL.name:
        return True
    return condition.endswith(CHANGE) and (task == "probe" or condition.removesuffix(CHANGE) not in SINGLES)
