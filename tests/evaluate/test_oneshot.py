"""One-shot against the exact expectation over every possible draw, and the draws' own laws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ttr.errors import OptionError
from ttr.evaluate.oneshot import balanced, one_each, oneshot
from ttr.evaluate.probe import Labelled


def blobs(count, seed, classes=3, spread=1.0):
    random = np.random.default_rng(seed)
    y = np.arange(count) % classes
    centres = np.random.default_rng(9).normal(0, 1, (classes, 6))
    return Labelled((centres[y] + spread * random.normal(0, 1, (count, 6))).astype(np.float32), y)


def exact(support, queries):
    """Return each query's chance to be right, over all choices of one exemplar a class."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (support.x, queries.x)]
    choices = list(product(*(np.flatnonzero(support.y == c) for c in np.unique(support.y))))
    closest = np.array([(unit[1] @ unit[0][list(chosen)].T).argmax(axis=1) for chosen in choices])
    return (closest == queries.y).mean(axis=0)


def test_many_draws_reach_the_expectation_over_all_of_them():
    support, queries = blobs(15, 0), blobs(40, 1)
    found = oneshot(support, queries, draws=4000, seed=0)
    expected = exact(support, queries)
    assert 0.2 < expected.mean() < 0.95
    # Four standard errors of the least favourable share.
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / 4000**0.5)


def test_with_one_image_a_class_every_draw_is_the_same():
    support, queries = blobs(3, 0), blobs(30, 1)
    found = oneshot(support, queries, draws=3, seed=5)
    assert set(found) == {0.0, 1.0}
    assert np.array_equal(found, exact(support, queries))


def test_two_conditions_meet_the_same_exemplars():
    """A query's share does not depend on the other queries, and a copy of the support's images is paired."""
    support, queries = blobs(30, 0), blobs(24, 1)
    together = oneshot(support, queries, seed=1)
    part = oneshot(support, Labelled(queries.x[5:9], queries.y[5:9]), seed=1)
    assert np.array_equal(part, together[5:9])
    assert np.array_equal(oneshot(support, Labelled(7 * queries.x, queries.y), seed=1), together)
    assert not np.array_equal(oneshot(support, queries, seed=2), together)
    assert set((20 * together).round(9)) <= set(range(21))


def test_labels_need_not_be_without_gaps_and_ties_go_to_the_lowest_class():
    support = Labelled(np.ones((2, 2), dtype=np.float32), np.array([7, 3]))
    queries = Labelled(np.ones((2, 2), dtype=np.float32), np.array([3, 7]))
    assert oneshot(support, queries, seed=0).tolist() == [1.0, 0.0]


def test_what_cannot_be_answered_is_refused():
    support, queries = blobs(9, 0), blobs(9, 1, classes=4)
    with pytest.raises(OptionError, match="class 3 of the queries has no support image"):
        oneshot(support, queries, seed=0)
    with pytest.raises(OptionError, match="draws=0"):
        oneshot(support, support, draws=0, seed=0)
    with pytest.raises(OptionError, match="sizes 6 and 2"):
        oneshot(support, Labelled(queries.x[:, :2], queries.y), seed=0)


def exact_top(support, queries, k):
    """Return the accuracy that one exemplar and one query a class are expected to have, over all choices."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (support.x, queries.x)]
    choices = list(product(*(np.flatnonzero(support.y == c) for c in np.unique(support.y))))
    best = [np.argsort(-(unit[1] @ unit[0][list(chosen)].T), axis=1)[:, :k] for chosen in choices]
    right = np.mean([(top == queries.y[:, None]).any(axis=1) for top in best], axis=0)
    return np.mean([right[queries.y == c].mean() for c in np.unique(queries.y)])


def test_one_query_a_class_reaches_the_expectation_over_all_choices():
    """Classes count alike, whatever the number of their queries."""
    support, queries = blobs(16, 0, classes=4), blobs(40, 1, classes=4)
    fewer = np.flatnonzero((queries.y != 2) | (np.arange(40) < 8))
    queries = Labelled(queries.x[fewer], queries.y[fewer])
    found = one_each(support, queries, tops=(1, 2, 4), draws=3000, seed=0)
    for k in (1, 2):
        expected = exact_top(support, queries, k)
        assert 0.2 < expected < 0.98
        assert found.accuracies[k].mean() == pytest.approx(expected, abs=4 * 0.25 / 3000**0.5)
    assert (found.accuracies[4] == 1).all(), "four of four classes cannot miss"
    assert found.asked.sum() == 3000 * 4
    assert found.classes == 4


def test_the_mean_over_draws_is_the_mean_over_classes_of_what_was_asked():
    support, queries = blobs(12, 0), blobs(20, 1)
    found = one_each(support, queries, tops=(1, 2), draws=30, seed=3)
    whole = np.ones((1, 20))
    for k in (1, 2):
        value = balanced(found.hits[k], found.asked, queries.y, whole)
        assert value == pytest.approx([found.accuracies[k].mean()])
    weights = np.random.default_rng(0).integers(0, 3, (2, 20)) * (queries.y != 1)
    expected = [
        np.mean(
            [
                (w * found.hits[1])[queries.y == c].sum() / (w * found.asked)[queries.y == c].sum()
                for c in (0, 2)
            ]
        )
        for w in weights
    ]
    np.testing.assert_allclose(balanced(found.hits[1], found.asked, queries.y, weights), expected)


def test_within_one_set_an_exemplar_is_never_of_the_querys_own_patient():
    """Features at right angles but for a patient's own: only its own patient would make a query right."""
    patients = np.arange(12) // 2
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    images = Labelled(np.eye(6, dtype=np.float32)[patients], y)
    found = one_each(images, images, tops=(1,), draws=50, seed=0, apart=patients)
    assert found.accuracies[1] == pytest.approx(1 / 3), "of three equals the lowest class counts"
    alone = one_each(images, images, tops=(1,), draws=50, seed=0, apart=np.where(y == 1, 9, patients))
    assert alone.asked[y == 1].sum() == 0, "all of class 1 are of one patient"
    assert alone.asked.sum() == 2 * 50
    assert alone.classes == 3
    assert not one_each(images, images, draws=2, seed=0, apart=np.zeros(12)).asked.any()


def test_one_each_asks_ablated_features_with_the_same_draws():
    support, queries = blobs(30, 0), blobs(24, 1)
    first = one_each(support, queries, draws=20, seed=1)
    scaled = one_each(support, Labelled(7 * queries.x, queries.y), draws=20, seed=1)
    assert np.array_equal(first.hits[1], scaled.hits[1])
    noise = Labelled(np.random.default_rng(0).normal(size=queries.x.shape), queries.y)
    assert np.array_equal(first.asked, one_each(support, noise, draws=20, seed=1).asked)
