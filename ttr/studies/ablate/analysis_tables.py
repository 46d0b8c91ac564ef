"""The analyses of a measured ablation as long tables; see :mod:`ttr.analysis` for what each number means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ttr.analysis.probing import probe_layers
from ttr.analysis.routing import GROUPS
from ttr.datasets.registry import groups_of
from ttr.evaluate.knn import recall_at_1
from ttr.evaluate.segmentation import miou_resampled
from ttr.statistics.contrasts import Contrast, contrast, level
from ttr.statistics.contrasts import Measured as Number
from ttr.statistics.verdict import holm
from ttr.studies.ablate.conditions import FULL
from ttr.studies.ablate.experiment import Measured
from ttr.studies.ablate.tables import NOTHING, delta_columns, family_of, with_verdicts

#: The readings of :mod:`ttr.analysis.geometry`.
RANKS = ("effective_rank", "effective_rank_centred", "effective_rank_singular")


def register_names(measured: Measured) -> list[str]:
    """Return the names of the registers, trained ones first: register-1, ..., test-time-1, ..."""
    layout = measured.subject.layout
    return [
        *(f"register-{index + 1}" for index in range(layout.registers)),
        *(f"test-time-{index + 1}" for index in range(layout.test_time)),
    ]


def attention(measured: Measured) -> pd.DataFrame:
    """Return where each source's attention goes.

    Columns: condition, block, source, target, share (0..1), ci_low, ci_high, n. Targets
    are ``cls``, ``registers`` and ``patches``, and beside them each single register by name.
    """
    rows = []
    for condition, arrays in _analysed(measured).items():
        flows, shares = arrays["flows"], arrays["shares"]
        single = register_names(measured)[: shares.shape[3]]
        both = np.concatenate([flows, shares], axis=3)
        for block in range(flows.shape[1]):
            for i, source in enumerate(GROUPS):
                for j, target in enumerate((*GROUPS, *single)):
                    place = {"condition": condition, "block": block, "source": source, "target": target}
                    rows += _row(measured, place, "share", both[:, block, i, j], shares=True)
    return pd.DataFrame(rows)


def divergence(measured: Measured) -> pd.DataFrame:
    """Return how far attention is from the full condition's.

    Columns: condition, block, source, js (nats, 0..ln 2; of each head, then averaged), ci_low, ci_high, n,
    js_of_mean (of the heads' mean attention) with its interval.
    """
    rows = []
    for condition, arrays in _analysed(measured).items():
        for block in range(arrays["divergence"].shape[1]):
            for i, source in enumerate(GROUPS):
                place = {"condition": condition, "block": block, "source": source}
                found = _row(measured, place, "js", arrays["divergence"][:, block, i])
                for of_mean in _row(measured, {}, "js_of_mean", arrays["divergence_of_mean"][:, block, i]):
                    ends = {f"js_of_mean_{end}": of_mean[end] for end in ("ci_low", "ci_high")}
                    found[0] |= {"js_of_mean": of_mean["js_of_mean"], **ends}
                rows += found
    return pd.DataFrame(rows)


def geometry(measured: Measured) -> pd.DataFrame:
    """Return the patches' cosine to the full condition, and their effective rank in three readings.

    Columns: condition, measure, value, ci_low, ci_high, n, delta (from full) with its interval, p, family,
    and those of :class:`ttr.statistics.verdict.Judged`. A cosine is equivalent within the margin of the
    ablation, as it stands; a rank has none.
    """
    rows, changes, margins = [], [], []
    analysed = _analysed(measured)
    for condition, arrays in analysed.items():
        for measure in ("patch_cosine", *RANKS):
            numbers = arrays[measure].astype(np.float64)
            (row,) = _row(measured, {"condition": condition, "measure": measure}, "value", numbers)
            found: Contrast | None = None
            if condition != FULL.name:
                full = analysed[FULL.name][measure].astype(np.float64)
                found = contrast([(1, numbers), (-1, full)], groups=_groups(measured), seed=_seed(measured))
            rows.append({**row, **delta_columns(found, condition), "family": family_of(condition)})
            changes.append(found)
            margins.append(measured.settings.margin if measure == "patch_cosine" else NOTHING)
    return with_verdicts(pd.DataFrame(rows), changes, margins)


def probing(measured: Measured) -> pd.DataFrame:
    """Return a linear probe of CLS and of every register at each looked-into block.

    Columns: block, token, accuracy, ci_low, ci_high, chance, p (of accuracy = chance), p_holm, n. Of training
    images of a single class there is nothing to tell apart, and no row.
    """
    assert measured.analysed is not None
    items = measured.training.items
    train = np.array([item.split == "train" for item in items])
    if len({item.label for item in items if item.split == "train"}) < 2:
        return pd.DataFrame()
    tokens = measured.training.arrays[FULL.name]["layer_tokens"][train]
    test = _analysed(measured)[FULL.name]["layer_tokens"]
    cls = ["cls"] if measured.subject.layout.cls else []
    probes = probe_layers(
        (tokens, measured.dataset.targets(items)[train]),
        (test, measured.dataset.targets(measured.analysed.items)),
        layers=measured.blocks,
        tokens=[*cls, *register_names(measured)],
        groups=_groups(measured),
        seed=_seed(measured),
    )
    table = pd.DataFrame(
        [
            {
                "block": probe.layer,
                "token": probe.token,
                "accuracy": probe.accuracy,
                "ci_low": probe.interval.low,
                "ci_high": probe.interval.high,
                "chance": probe.chance,
                "p": probe.p,
                "n": len(probe.correct),
            }
            for probe in probes
        ]
    )
    table["p_holm"] = holm(table["p"].tolist())
    return table


def layers(measured: Measured) -> pd.DataFrame:
    """Return the tasks at each looked-into block: block, task, metric, value, ci_low, ci_high, n.

    Retrieval is among the analysed images; for the probe of CLS see :func:`probing`.
    """
    assert measured.analysed is not None
    arrays, rows = _analysed(measured)[FULL.name], []
    y = measured.dataset.targets(measured.analysed.items)
    retrieved = "knn" in measured.settings.tasks and measured.subject.layout.cls and len(y) > 1
    for index, block in enumerate(measured.blocks):
        if retrieved:
            place = {"block": block, "task": "knn", "metric": "recall_at_1"}
            right = recall_at_1(arrays["layer_tokens"][:, index, 0], y)
            rows += _row(measured, place, "value", right, shares=True)
        for name, metric in (("layer_pck", "pck_0.1"), ("layer_nearest", "nearest_patch")):
            if name in arrays:
                place = {"block": block, "task": "correspondence", "metric": metric}
                rows += _row(measured, place, "value", arrays[name][:, index], shares=True)
        if "layer_confusion" in arrays:
            counts = arrays["layer_confusion"][:, index]
            masked = counts.sum(axis=(1, 2)) > 0
            place = {"block": block, "task": "segmentation", "metric": "miou"}
            number = partial(miou_resampled, counts[masked])
            rows += _row(measured, place, "value", number, masked, shares=True)
    return pd.DataFrame(rows, columns=["block", "task", "metric", "value", "ci_low", "ci_high", "n"])


def register_cosines(measured: Measured) -> pd.DataFrame:
    """Return the cosine between registers at the end: columns first, second, cosine, ci_low, ci_high, n."""
    cosines, names = _analysed(measured)[FULL.name]["register_cosines"], register_names(measured)
    rows = []
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            rows += _row(measured, {"first": first, "second": second}, "cosine", cosines[:, i, j])
    return pd.DataFrame(rows, columns=["first", "second", "cosine", "ci_low", "ci_high", "n"])


def _row(
    measured: Measured,
    place: dict[str, Any],
    name: str,
    number: Number,
    there: np.ndarray | None = None,
    *,
    shares: bool = False,
) -> list[dict[str, Any]]:
    """Return the row of a number, or none where it is not defined for any image.

    ``there``: which images a statistic of resampled images is made of, bool [N].
    """
    groups = _groups(measured)
    if callable(number):
        assert there is not None
        count = int(there.sum())
        groups = None if groups is None else np.array(groups)[there].tolist()
    else:
        number, count = number.astype(np.float64), int(np.isfinite(number).sum())
    if not count:
        return []
    value, interval = level(number, count=count, groups=groups, shares=shares)
    return [{**place, name: value, "ci_low": interval.low, "ci_high": interval.high, "n": count}]


def _analysed(measured: Measured) -> dict[str, dict[str, np.ndarray]]:
    assert measured.analysed is not None
    return measured.analysed.arrays


def _groups(measured: Measured) -> Sequence[str] | None:
    assert measured.analysed is not None
    return groups_of(measured.analysed.items)


def _seed(measured: Measured) -> int:
    return measured.run.seed
