"""Metrics against scikit-learn, and their resampled twins against scikit-learn on the images repeated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ttr.errors import OptionError
from ttr.evaluate.metrics import METRICS, Predictions, confusion, metric
from ttr.evaluate.resampled import resampled
from ttr.statistics.inference import resample_weights


def all_metrics(found):
    return [metric(name, found) for name in METRICS]


def made(count=80, classes=5, seed=0, sharp=1.0, ordinal=True, ties=False):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, count)
    p = random.dirichlet(np.ones(classes), count) + sharp * random.random((count, 1)) * np.eye(classes)[y]
    p = np.round(p, 1) + 0.01 if ties else p
    return Predictions(y, p / p.sum(axis=1, keepdims=True), ordinal)


def values(found):
    return {each.name: each.value for each in all_metrics(found)}


def test_each_metric_is_scikit_learns_or_its_formula():
    found = made()
    y, p, predicted = found.targets, found.probabilities, found.probabilities.argmax(axis=1)
    edges = np.linspace(0, 1, 16)
    confidence = p.max(axis=1)
    gaps = []
    for low, high in pairwise(edges):
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            gaps.append(inside.mean() * abs((predicted == y)[inside].mean() - confidence[inside].mean()))
    expected = {
        "top1": (predicted == y).mean(),
        "top3": sk.top_k_accuracy_score(y, p, k=3),
        "f1_macro": sk.f1_score(y, predicted, average="macro"),
        "precision_macro": sk.precision_score(y, predicted, average="macro"),
        "recall_macro": sk.recall_score(y, predicted, average="macro"),
        "auc_ovr": sk.roc_auc_score(y, p, multi_class="ovr", average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "qwk": sk.cohen_kappa_score(y, predicted, weights="quadratic"),
        "ece": sum(gaps),
        "brier": ((p - np.eye(5)[y]) ** 2).sum(axis=1).mean(),
    }
    assert tuple(expected) == METRICS
    assert values(found) == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(confusion(found), sk.confusion_matrix(y, predicted, labels=range(5)))
    assert found.correct.mean() == expected["top1"]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_is_the_metric_of_the_images_repeated(name, ties):
    found = made(60, 4, seed=3, ties=ties)
    weights = resample_weights(60, resamples=250, seed=1)
    fast = resampled(name, found, weights)
    assert fast.shape == (250,)
    for row, value in list(zip(weights, fast, strict=True))[::10]:
        repeated = found.take(np.repeat(np.arange(60), row))
        assert value == pytest.approx(metric(name, repeated).value, abs=1e-9, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), classes=st.integers(2, 6))
def test_the_order_of_images_changes_nothing_and_all_are_in_range(seed, count, classes):
    found = made(count, classes, seed, ties=bool(seed % 2))
    turned = found.take(np.random.default_rng(seed).permutation(count))
    assert values(turned) == pytest.approx(values(found), nan_ok=True)
    for each in all_metrics(found):
        assert bool(each.reason) == np.isnan(each.value)
        low, high = {"qwk": (-1, 1), "brier": (0, 2)}.get(each.name, (0, 1))
        assert each.reason or low - 1e-12 <= each.value <= high + 1e-12


def test_what_is_not_defined_says_why():
    reasons = {each.name: each.reason for each in all_metrics(made(40, 3, ordinal=False)) if each.reason}
    assert reasons == {"top3": "top 3 of 3 classes is always right", "qwk": "the classes are not ordinal"}
    found = made(40, 5)
    without = found.take(found.targets != 3)
    assert metric("auc_ovr", without).reason == "class 3 has no test image"
    assert np.isnan(resampled("auc_ovr", without, np.ones((2, len(without.targets))))).all()
    assert metric("f1_macro", without).value < 1, "a class without images counts 0, as in scikit-learn"
    one = Predictions(np.zeros(3, dtype=int), np.array([[0.9, 0.1]] * 3), True)
    assert metric("qwk", one).reason == "only one class is there, in truth and prediction"
    assert metric("auc_ovr", one).reason == "class 0 has every test image"
    assert metric("top1", one).value == 1


@pytest.mark.parametrize(
    ("targets", "probabilities", "complaint"),
    [
        ([], np.empty((0, 2)), r"N >= 1"),
        ([0, 1], [[1, 0]], r"got targets \(2,\) and probabilities \(1, 2\)"),
        ([2], [[0.5, 0.5]], r"from 2 to 2; needed 0..1"),
        ([-1], [[0.5, 0.5]], "from -1"),
        ([0], [[0.5, 0.6]], "sum to 1"),
        ([0], [[1.5, -0.5]], ">= 0"),
        ([0], [[np.nan, 1]], ">= 0"),
    ],
)
def test_what_are_no_predictions_is_refused(targets, probabilities, complaint):
    with pytest.raises(OptionError, match=complaint):
        Predictions(np.array(targets, dtype=int), np.array(probabilities, dtype=float))


def test_an_unknown_metric_is_refused():
    for call in (lambda: metric("accuracy", made()), lambda: resampled("accuracy", made(), np.ones((1, 80)))):
        with pytest.raises(OptionError, match="'accuracy' is not known; needed one of top1"):
            call()
