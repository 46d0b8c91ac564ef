"""Neighbours against a brute-force double loop, ties among them, and whatever the chunks."""

from __future__ import annotations

import warnings
from collections import defaultdict

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ttr.errors import OptionError
from ttr.evaluate import knn
from ttr.evaluate.knn import knn_correct, recall_at_1
from ttr.evaluate.probe import Labelled


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return round(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), 10)


def nearest(query, gallery):
    """Return all gallery indices, the most similar first, of equals the lowest."""
    return sorted(gallery, key=lambda j: (-cosine(query, gallery[j]), j))


def brute_recall(x, y):
    found = [nearest(x[i], {j: x[j] for j in range(len(x)) if j != i})[0] for i in range(len(x))]
    return y[found] == y


def brute_knn(gallery, queries, k):
    right = []
    for x, y in zip(queries.x, queries.y, strict=True):
        votes, similarity = defaultdict(int), defaultdict(float)
        for j in nearest(x, dict(enumerate(gallery.x)))[:k]:
            votes[gallery.y[j]] += 1
            similarity[gallery.y[j]] += cosine(x, gallery.x[j])
        right.append(min(votes, key=lambda c: (-votes[c], -round(similarity[c], 9), c)) == y)
    return np.array(right)


def data(count, seed, width=5, copies=False):
    random = np.random.default_rng(seed)
    x = random.normal(0.3, 1, (count, width)).astype(np.float32)
    if copies:  # points of a coarse lattice: many are equal or parallel, so many similarities tie
        x = random.integers(1, 3, (count, width)).astype(np.float32)
    return Labelled(x, random.integers(0, 4, count))


@pytest.mark.parametrize("copies", [False, True])
def test_recall_at_1_equals_a_double_loop(copies, monkeypatch):
    images = data(90, 0, copies=copies)
    expected = brute_recall(images.x, images.y)
    assert 0 < expected.mean() < 1
    assert np.array_equal(recall_at_1(images.x, images.y), expected)
    monkeypatch.setattr(knn, "WORKING_MIB", 1e-3)  # one row at a time
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not adhere")
        assert np.array_equal(recall_at_1(images.x, images.y), expected)


def test_recall_at_1_knows_the_length_of_a_vector_does_not_count_and_an_image_is_not_its_own_neighbour():
    x = np.array([[1, 0], [9, 1], [0, 1], [0, 8]], dtype=np.float32)
    assert recall_at_1(x, np.array([0, 0, 1, 1])).all()
    assert not recall_at_1(x, np.array([0, 1, 2, 3])).any()


def test_of_equal_neighbours_the_lowest_index_counts():
    x = np.ones((4, 3), dtype=np.float32) * np.array([[1], [2], [3], [1 / 3]], dtype=np.float32)
    # Each image's first neighbour is image 0, and image 0's is image 1.
    assert recall_at_1(x, np.array([0, 1, 0, 1])).tolist() == [False, False, True, False]


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("copies", [False, True])
def test_knn_equals_a_double_loop(k, copies):
    gallery, queries = data(40, 1, copies=copies), data(60, 2, copies=copies)
    assert np.array_equal(knn_correct(gallery, queries, k), brute_knn(gallery, queries, k))


def test_knn_equals_scikit_learns_where_no_vote_ties():
    random = np.random.default_rng(3)
    gallery, queries = data(60, 4), data(80, 5)
    gallery = Labelled(gallery.x, random.integers(0, 2, 60))
    queries = Labelled(queries.x, random.integers(0, 2, 80))
    model = KNeighborsClassifier(5, metric="cosine").fit(gallery.x, gallery.y)
    assert np.array_equal(knn_correct(gallery, queries), model.predict(queries.x) == queries.y)


def test_a_tied_vote_goes_to_the_more_similar_class():
    gallery = Labelled(
        np.array([[1, 0.1], [0, 1], [1, 0], [0.3, 1]], dtype=np.float32), np.array([1, 0, 1, 0])
    )
    queries = Labelled(np.array([[1, 0.2], [0.2, 1]], dtype=np.float32), np.array([1, 0]))
    assert knn_correct(gallery, queries, k=4).all()


def test_a_class_that_the_gallery_lacks_is_wrong_and_bad_input_is_refused():
    gallery, queries = data(8, 1), data(5, 2)
    assert not knn_correct(gallery, Labelled(queries.x, np.full(5, 9))).any()
    for k in (0, 9):
        with pytest.raises(OptionError, match=rf"k={k}; needed 1\.\.8"):
            knn_correct(gallery, queries, k)
    with pytest.raises(OptionError, match="sizes 5 and 7; needed those of one backbone"):
        knn_correct(gallery, data(5, 2, width=7))
    with pytest.raises(OptionError, match="at least two"):
        recall_at_1(gallery.x[:1], gallery.y[:1])
    with pytest.raises(OptionError, match="NaN"):
        recall_at_1(np.full((3, 2), np.nan, dtype=np.float32), np.arange(3))
