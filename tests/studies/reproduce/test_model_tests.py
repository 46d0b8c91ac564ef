"""The published tests between models against scipy's exact permutations and hand calculation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from ttr.studies.reproduce.model_tests import compare_models
from ttr.studies.reproduce.published import ModelTest

TEST = ModelTest(
    "which costs more?", (("a", "b"), ("a", "gone")), "registers:zero", ("probe", "knn"), "< 0.001"
)
METRICS = {"probe": "top1", "knn": "recall_at_1"}
FULL = {"a": np.ones(12), "b": np.ones(12)}
ZERO = {"a": np.array([0.0] * 9 + [1] * 3), "b": np.array([1.0] * 11 + [0])}


@pytest.fixture
def folders(tmp_path):
    """Of 12 images, zeroing registers costs model a the first nine, model b the last one."""
    for name in "ab":
        (tmp_path / name).mkdir()
        parts = []
        for metric in ("top1", "top1_own"):
            for condition, right in (("full", FULL[name]), ("registers:zero", ZERO[name]), ("cls:zero", 0)):
                images = [f"{number}.png" for number in range(12)]
                place = {"condition": condition, "task": "probe", "metric": metric, "group": ""}
                part = pd.DataFrame({"image": images, "value": right * np.ones(12)}).assign(**place)
                parts.append(part)
        table = pd.concat(parts)
        table["confusion"] = [np.array([], dtype=np.int64)] * len(table)
        table.to_parquet(tmp_path / name / "per_image.parquet")
    return {name: [tmp_path / name] for name in "ab"}


def test_it_is_the_paired_permutation_of_the_effects_and_what_lacks_is_named(folders):
    lacking = {"gone": "its weights are elsewhere", "knn": "a single class"}
    table = compare_models([TEST], folders, METRICS, lacking, margin=0.01, seed=1).set_index(
        ["model_b", "task"]
    )
    found = table.loc["b", "probe"]
    assert found.published_p == "< 0.001"
    assert found.effect_a == pytest.approx(-9 / 12)
    assert found.effect_b == pytest.approx(-1 / 12)
    assert found.difference == pytest.approx(-8 / 12)
    effects = [ZERO[name] - FULL[name] for name in "ab"]
    exact = permutation_test(
        effects, lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == pytest.approx(exact.pvalue, abs=0.01)
    assert found.p < 0.05
    assert (found.verdict, found.metric, found.n) == ("lower", "top1", 12)
    assert table.missing["b", "knn"] == "a single class"
    assert set(table.missing["gone"]) == {"gone: its weights are elsewhere"}
    assert table.p["gone"].isna().all()


def test_models_of_other_images_are_not_compared(folders):
    file = folders["b"][0] / "per_image.parquet"
    pd.read_parquet(file).replace({"image": {"0.png": "another.png"}}).to_parquet(file)
    table = compare_models([TEST], folders, METRICS, {}, margin=0.01, seed=1)
    assert "were not measured on the same images" in table.missing[0]
