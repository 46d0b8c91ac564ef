"""What the page computes, without a widget: the numbers of ``ttr compare``, and maps by lookup."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

import ttr
from ttr.apps.image.inspection import inspect
from ttr.datasets.registry import open_image, sample_paths
from ttr.errors import OptionError
from ttr.forward.record import record


@pytest.fixture(scope="module")
def fundus():
    return open_image(sample_paths()["fundus"])


@pytest.fixture(scope="module")
def inspected(phantom, fundus):
    return inspect(phantom, ttr.RegisterNeurons.from_pairs(phantom.planted), fundus)


def test_its_numbers_are_those_of_the_command(phantom, fundus, inspected):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    (expected,) = ttr.compare(phantom, neurons, [fundus])
    found = inspected.comparison
    for run in ("before", "after"):
        ours, theirs = getattr(found, run).to_json(), getattr(expected, run).to_json()
        for name in ("max_patch_norm", "outlier_patches", "max_patch_attention", "faithfulness"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), (run, name)


def test_every_map_is_the_models_own(phantom, fundus, inspected):
    passed = record(phantom, phantom.preprocess(fundus)[None], attention=True)
    rows = passed.layout.select(passed.cls_attention[:, 0], "patches", dim=2)
    for layer in (0, 5):
        expected = rows[layer].reshape(-1, 14, 14).numpy()
        np.testing.assert_allclose(inspected.before.attention_map(layer, 1), expected[1], atol=1e-6)
        np.testing.assert_allclose(inspected.before.attention_map(layer), expected.mean(axis=0), atol=1e-6)
    norms = passed.layout.select(passed.norms[3, 0], "patches", dim=0).reshape(14, 14).numpy()
    np.testing.assert_allclose(inspected.before.norm_map(3), norms, rtol=1e-5)
    assert inspected.before.attention_map(5, query="test-time register 1") is None
    assert inspected.after.attention_map(5, query="test-time register 1").shape == (14, 14)
    assert inspected.after.register_share(5) > 0.5 > inspected.before.register_share(5)


def test_what_is_not_there_is_refused(inspected):
    inspected.check(5, None, "CLS")
    with pytest.raises(OptionError, match=r"needed a block 0\.\.5 and a head 0\.\.2"):
        inspected.check(6, None, "CLS")
    with pytest.raises(OptionError, match="query 'patch'; needed one of CLS"):
        inspected.check(0, None, "patch")


def test_the_original_of_planted_artifacts_is_shown_beside_them(phantom, fundus, inspected):
    assert inspected.shown == inspected.runs
    assert inspected.likeness(5, None, "CLS") is None
    original = ttr.load("phantom", image_size=224)
    with torch.no_grad():
        for layer, neuron in phantom.planted:
            original.model.blocks[layer].mlp.fc2.weight[:, neuron] = 0
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    found = inspect(phantom, neurons, fundus, original=original)
    assert found.shown == (found.original, *found.runs)
    truth = record(original, original.preprocess(fundus)[None], attention=True)
    row = truth.layout.select(truth.cls_attention[5, 0, 1], "patches", dim=0).numpy()
    np.testing.assert_allclose(found.original.attention_map(5, 1).ravel(), row, atol=1e-6)
    cosines = [
        1 - cosine(row, run.attention_map(5, 1).ravel().astype(float)) for run in (found.before, found.after)
    ]
    assert found.likeness(5, 1, "CLS") == pytest.approx(cosines, abs=1e-5)
    assert cosines[0] < 0.9 * cosines[1]
    assert found.likeness(5, None, "test-time register 1") is None
    np.testing.assert_allclose(found.before.norms, inspected.before.norms, rtol=1e-5)
