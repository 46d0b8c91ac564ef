"""The suite on ``phantom-reg4``, whose truth is known: what zeroing breaks, plausible values leave alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import ttr
from ttr.datasets.phantom_set import COUNTS, phantom_set
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import write_ablation

PLAUSIBLE = ("registers:mean", "registers:noise", "registers:shuffle")
SINGLES = tuple(f"register-{index}:zero" for index in (1, 2, 3, 4))
#: Heads, gallery and exemplars are those of the full model.
METRICS = ("top1", "knn_accuracy", "recall_at_1", "pck_0.1", "nearest_patch", "miou", "accuracy")


def suite(folder: Path, counts: dict[str, int], conditions: tuple[str, ...]) -> pd.DataFrame:
    found = write_ablation(
        ttr.load("phantom-reg4"),
        PLAIN,
        phantom_set(counts=counts),
        list(conditions),
        folder / "out",
        AblationSettings(analysis_images=0),
        Run(cache=folder / "cache"),
    )
    return found.results.set_index(["metric", "condition"])


@pytest.mark.slow
def test_zeroing_breaks_every_task_and_the_mean_none(tmp_path):
    counts = {"train": 60, "val": 18, "test": 60}
    table = suite(tmp_path, counts, ("registers:zero", "registers:mean", "cls:mean"))
    for metric in METRICS:
        if metric == "recall_at_1":
            continue  # sixty images are too few to show what becomes of it; the whole set does
        zero, mean = table.loc[(metric, "registers:zero")], table.loc[(metric, "registers:mean")]
        assert zero.verdict == "lower", metric
        assert zero.p_holm < 0.05, metric
        assert mean.verdict in ("not distinguishable", "equivalent"), metric
        assert abs(mean.delta) <= 0.02, metric
    assert table.loc[("top1", "cls:mean"), "value"] == pytest.approx(1 / 6, abs=0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    conditions = ("registers:zero", *PLAUSIBLE, *SINGLES, "cls:mean", "patches-4:zero")
    folder = tmp_path_factory.mktemp("truth")
    return suite(folder, COUNTS, conditions), folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_zeroing_registers_collapses_every_task(whole, metric):
    row = whole[0].loc[(metric, "registers:zero")]
    assert row.verdict == "lower"
    assert row.p_holm < 0.005
    assert row.delta <= -0.3 * whole[0].loc[(metric, "full"), "value"] or metric == "recall_at_1"
    assert row.delta <= -0.06


@pytest.mark.slow
@pytest.mark.parametrize("condition", [*PLAUSIBLE, "patches-4:zero"])
@pytest.mark.parametrize("metric", METRICS)
def test_plausible_replacements_and_random_patches_stay_within_a_point(whole, metric, condition):
    row = whole[0].loc[(metric, condition)]
    # Of one neighbour a few images turn on a last bit.
    assert abs(row.delta) <= (0.015 if metric == "recall_at_1" else 0.01)
    assert row.verdict in ("not distinguishable", "equivalent") or condition == "patches-4:zero"


@pytest.mark.slow
def test_the_mean_of_cls_kills_the_probe_and_spares_the_patches(whole):
    table = whole[0]
    assert table.loc[("top1", "cls:mean"), "value"] == pytest.approx(1 / 6, abs=0.02)
    assert table.loc[("top1", "cls:mean"), "p_holm"] < 0.005
    for metric in ("pck_0.1", "miou"):
        assert abs(table.loc[(metric, "cls:mean"), "delta"]) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_all_at_once_cost_more_than_the_sum_of_single_ones(whole, metric):
    sums = pd.read_csv(whole[1] / "additivity.csv").set_index(["metric", "term"])
    excess = sums.loc[(metric, "excess")]
    assert excess.value < 0
    assert excess.ci_high < 0
    assert excess.p < 0.05
    assert sums.loc[(metric, "collective"), "value"] < sums.loc[(metric, "sum"), "value"]
