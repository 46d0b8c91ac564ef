"""Ablations of several models on the same images, compared: does a condition cost one model more?

The numbers are those of ``per_image.parquet``; of segmentation each image's confusion matrix, from which the
mIoU of any resample is made again. See :mod:`ttr.statistics.between_models` for the test.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ttr.errors import DataError, OptionError
from ttr.evaluate.segmentation import miou_resampled
from ttr.statistics.between_models import between_models
from ttr.statistics.contrasts import Contrast
from ttr.statistics.verdict import MARGIN, judge
from ttr.studies.table_files import Kind, read_rows

NEEDED: dict[str, Kind] = {
    **dict.fromkeys(("condition", "task", "metric", "image", "group"), "text"),
    "value": "number",
    "confusion": "numbers",
}


def read_per_image(path: Path) -> pd.DataFrame:
    """Read ``per_image.parquet`` of an ablation's folder.

    Raises:
        DataError: it is not there, or is not that table.
    """
    file = path / "per_image.parquet"
    if not file.exists():
        raise DataError(
            f"{path} has no per_image.parquet, which models are compared by; run ttr ablate again"
        )
    table = read_rows(file, NEEDED, "ttr ablate")
    places = table.assign(length=table["confusion"].map(len)).groupby(["task", "metric"])
    sizes = places["condition"].agg(lambda each: each.value_counts().nunique())
    lengths = places["length"].agg(["min", "max"])
    sides = np.sqrt(lengths["max"]).round()
    if (sizes > 1).any() or (lengths["min"] < lengths["max"]).any() or (sides**2 != lengths["max"]).any():
        raise DataError(f"{file} is damaged (conditions of other images); run ttr ablate again")
    return table


def effects(
    a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str], *, margin: float = MARGIN, seed: int = 42
) -> pd.DataFrame:
    """Compare the effects of the conditions that two models have in common, metric by metric.

    Args:
        a: as :func:`read_per_image` returns it, of the first model.
        b: of the second.
        names: of both models.
        margin: of equivalence, a share.
        seed: of intervals and permutations.

    Returns:
        Columns: model_a, model_b, task, metric, condition, effect_a, a_ci_low, a_ci_high, effect_b, b_ci_low,
        b_ci_high, difference, ci_low, ci_high, n, p, and those of :class:`ttr.statistics.verdict.Judged`; all
        rows are one family.

    Raises:
        OptionError: the models did not see the same images, or share no metric with a common condition.
    """
    rows: list[dict[str, Any]] = []
    differences: list[Contrast] = []
    for task, metric in dict.fromkeys(zip(a["task"], a["metric"], strict=True)):
        mine, other = (t[(t["task"] == task) & (t["metric"] == metric)] for t in (a, b))
        common = [name for name in dict.fromkeys(mine["condition"]) if name in set(other["condition"])]
        if len(common) < 2 or "full" not in common:
            continue
        images, groups = _images(mine, other, names, task)
        found = between_models(
            _numbers(mine, common),
            _numbers(other, common),
            groups=groups,
            count=len(images) if task == "segmentation" else None,
            shares=True,
            seed=seed,
        )
        place = {"model_a": names[0], "model_b": names[1], "task": task, "metric": metric}
        for each in found:
            row: dict[str, Any] = {**place, "condition": each.condition}
            for side, effect in (("a", each.effect_a), ("b", each.effect_b)):
                row |= {
                    f"effect_{side}": effect.value,
                    f"{side}_ci_low": effect.interval.low,
                    f"{side}_ci_high": effect.interval.high,
                }
            row |= {
                "difference": each.difference.value,
                "ci_low": each.difference.interval.low,
                "ci_high": each.difference.interval.high,
                "n": each.difference.n,
                "p": each.difference.p,
            }
            rows.append(row)
            differences.append(each.difference)
    if not rows:
        raise OptionError(
            f"{names[0]} and {names[1]} share no metric under a condition other than full; "
            "ablate both with the same tasks and conditions"
        )
    return pd.DataFrame(rows).join(pd.DataFrame(each.columns() for each in judge(differences, margin)))


def _images(
    a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str], task: str
) -> tuple[list[str], list[str] | None]:
    """Return the images that both models saw, and their groups."""
    first, second = (t[t["condition"] == "full"] for t in (a, b))
    images, others = first["image"].tolist(), second["image"].tolist()
    if images != others:
        same = len(set(images) & set(others))
        raise OptionError(
            f"{names[0]} and {names[1]} were not measured on the same images ({task}: {len(images)} and "
            f"{len(others)}, of which {same} in common); a paired test needs the same ones in the same "
            "order: ablate both on one set"
        )
    groups = first["group"].fillna("").tolist()
    return images, groups if any(groups) else None


def _numbers(table: pd.DataFrame, conditions: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for condition in conditions:
        rows = table[table["condition"] == condition]
        flat = rows["confusion"].tolist()
        if len(flat) and len(flat[0]):
            counts = np.stack([np.asarray(row, dtype=np.int64) for row in flat])
            side = round(counts.shape[1] ** 0.5)
            found[condition] = partial(miou_resampled, counts.reshape(-1, side, side))
        else:
            found[condition] = rows["value"].to_numpy(float)
    return found
