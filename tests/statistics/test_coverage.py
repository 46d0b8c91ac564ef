"""What an interval promises: 95 % hold the truth, for each kind of number and each shape of a test set.

Right or wrong of independent images is counted exactly, the rest is drawn. 93 to 97 % are asked for; where a
number is all but certain no interval can be that exact, since its ends are few, and it may be wider.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.stats

from ttr.evaluate.metrics import Predictions, metric
from ttr.evaluate.resampled import _from_confusion
from ttr.statistics import estimates
from ttr.statistics.contrasts import contrast, level
from ttr.statistics.inference import rescaled_weights
from ttr.studies.bench.intervals import metric_interval

pytestmark = pytest.mark.slow
LOW, HIGH = 0.93, 0.97


@pytest.mark.parametrize(("accuracy", "most"), [(0.5, HIGH), (0.9, HIGH), (0.996, 0.99)])
def test_an_accuracy_of_225_images(accuracy, most):
    covered = 0.0
    for right in range(226):
        interval = estimates.Share(right / 225, 225.0).interval()
        covered += scipy.stats.binom.pmf(right, 225, accuracy) * (interval.low <= accuracy <= interval.high)
    assert LOW <= covered <= most


@pytest.mark.parametrize(
    ("first", "second", "most"),
    [(0.1, 0.1, HIGH), (0.2, 0.05, HIGH), (0.04, 0.01, HIGH), (0.012, 0.004, 0.99), (0.004, 0.004, 1.0)],
)
def test_a_difference_of_225_pairs(first, second, most):
    """``first`` and ``second``: shares that are right under one arm alone."""

    @cache
    def holds(b, c):
        found = estimates.Difference((b - c) / 225, (b + c) / 225, 225.0, 225).interval()
        return found.low <= first - second <= found.high

    drawn = np.random.default_rng(0).multinomial(225, [first, second, 1 - first - second], size=4000)
    assert LOW <= np.mean([holds(b, c) for b, c, _ in drawn.tolist()]) <= most


def patients(random, groups, size, accuracy, alike):
    """Right or wrong of images of patients with accuracies of their own (beta); alike: their correlation."""
    spread = 1 / alike - 1
    own = random.beta(accuracy * spread, (1 - accuracy) * spread, groups)
    return (random.random((groups, size)) < own[:, None]).astype(float).ravel()


@pytest.mark.parametrize(
    ("groups", "size", "accuracy", "alike"),
    [(60, 5, 0.9, 0.3), (60, 5, 0.5, 0.5), (30, 10, 0.8, 0.2), (12, 10, 0.7, 0.2), (8, 20, 0.6, 0.1)],
)
def test_an_accuracy_over_patients_many_or_few(groups, size, accuracy, alike):
    random, named, covered = np.random.default_rng(0), np.repeat(np.arange(groups), size), 0
    for _ in range(2000):
        found = estimates.share(patients(random, groups, size, accuracy, alike), named).interval()
        covered += found.low <= accuracy <= found.high
    assert LOW <= covered / 2000 <= 0.98


@pytest.mark.parametrize(("groups", "size"), [(60, 5), (12, 10)])
def test_a_difference_over_patients_many_or_few(groups, size):
    random, named, covered = np.random.default_rng(0), np.repeat(np.arange(groups), size), 0
    for _ in range(1500):
        lost, won = (patients(random, groups, size, share, 0.3) for share in (0.2, 0.15))
        found = estimates.difference(np.where(lost > 0, -1.0, won), named).interval()
        covered += found.low <= 0.8 * 0.15 - 0.2 <= found.high
    assert LOW <= covered / 1500 <= 0.98


@pytest.mark.parametrize("count", [8, 15, 60])
def test_a_mean_of_few_images_without_bounds(count):
    random, covered = np.random.default_rng(0), 0
    for _ in range(3000):
        found = estimates.number(random.normal(3, 1, count)).interval()
        covered += found.low <= 3 <= found.high
    assert LOW <= covered / 3000 <= HIGH


def world(random, classes):
    """Chances of each answer to each class, float [classes, classes]: some are hard, errors are not even."""
    right = random.uniform(0.3, 1, classes)
    chances = np.eye(classes) * right[:, None]
    for label in range(classes):
        others = np.arange(classes) != label
        chances[label, others] = (1 - right[label]) * random.dirichlet(np.full(classes - 1, 0.2))
    return chances


@pytest.mark.parametrize("name", ["f1_macro", "precision_macro", "recall_macro", "balanced_accuracy"])
@pytest.mark.parametrize(("classes", "images"), [(45, 5), (12, 15)])
def test_a_macro_average_over_many_small_classes(name, classes, images):
    random, covered, sets = np.random.default_rng(0), 0, 400
    targets = np.repeat(np.arange(classes), images)
    weights = rescaled_weights(targets, resamples=300)
    for index in range(sets):
        if index % 20 == 0:
            chances = world(random, classes)
            truth = _from_confusion(name, chances[None] / classes)[0]
        answers = (random.random(len(targets))[:, None] > chances.cumsum(axis=1)[targets]).sum(axis=1)
        said = np.eye(classes)[answers.clip(max=classes - 1)]
        found = Predictions(targets, said)
        interval = metric_interval(name, metric(name, found).value, found, None, weights)
        covered += interval.low <= truth <= interval.high
    # 400 sets are 1.1 % of one standard deviation.
    assert LOW - 0.012 <= covered / sets <= HIGH + 0.012


@pytest.mark.parametrize("grouped", [False, True])
def test_an_intersection_over_union_and_what_an_arm_changes_of_it(grouped):
    """A ratio of sums over images, of patients of four images or of no one's."""
    random, covered = np.random.default_rng(0), np.zeros(2)
    named = np.repeat(np.arange(20), 4) if grouped else None
    for _ in range(600):
        own = np.repeat(random.normal(0, 0.1, 20), 4) if grouped else random.normal(0, 0.1, 80)
        union = random.uniform(1, 3, 80)
        first, second = (union * np.clip(mean + own + random.normal(0, 0.1, 80), 0, 1) for mean in (0.6, 0.5))
        ratios = [lambda weights, x=x, u=union: weights @ x / (weights @ u) for x in (first, second)]
        _, one = level(ratios[0], count=80, groups=named, shares=True)
        terms = [(1.0, ratios[0]), (-1.0, ratios[1])]
        two = contrast(terms, count=80, groups=named, shares=True, permutations=1).interval
        covered += [one.low <= 0.6 <= one.high, two.low <= 0.1 <= two.high]
    assert (covered / 600 >= LOW).all()
    assert (covered / 600 <= 0.98).all()
