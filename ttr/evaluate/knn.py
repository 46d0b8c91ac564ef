"""Nearest neighbours of frozen features: retrieval and classification without anything trained.

Similarity is the cosine, and the search is exact: every distance is computed, by scikit-learn, a few rows at
a time, so that memory holds a part of the table and never the whole. Distances that differ by less than the
arithmetic can tell (a set has copies of an image) are ties, and ties are decided by rule, not by rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ttr.errors import OptionError
from ttr.evaluate.probe import Labelled

#: Cosine distances of float64 vectors are exact to about 1e-15; what is closer than this is equal.
TIE = 1e-12
WORKING_MIB = 64


def recall_at_1(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return whether each image's nearest neighbour among all others has its class (Recall@1).

    Args:
        x: features, float [N, D], N >= 2.
        y: classes, int64 [N].

    Returns:
        bool [N]. Of equally near neighbours the one with the lowest index counts.

    Raises:
        OptionError: shapes do not match, fewer than two images, or features that are not finite.
    """
    images = Labelled(x, y)
    if len(y) < 2:
        raise OptionError("one image has no neighbour; needed at least two for Recall@1")

    def nearest(distances: np.ndarray, start: int) -> np.ndarray:
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        return (distances <= distances.min(axis=1, keepdims=True) + TIE).argmax(axis=1)

    return y[_by_rows(images.x, images.x, nearest)] == y


def knn_correct(gallery: Labelled, queries: Labelled, k: int = 5) -> np.ndarray:
    """Return whether the majority of each query's k nearest gallery images has its class.

    Classes with equally many votes are told apart by their summed cosine similarity, then by index; of
    equally near gallery images those with the lowest index vote.

    Args:
        gallery: G features with their classes.
        queries: Q features with theirs, none of them in the gallery.
        k: how many vote, 1..G.

    Returns:
        bool [Q].

    Raises:
        OptionError: k out of range, or features of two sizes.
    """
    if isinstance(k, bool) or not 1 <= k <= len(gallery.y):
        raise OptionError(f"k={k}; needed 1..{len(gallery.y)}, the number of gallery images")
    check_sizes(gallery, queries)
    member = np.eye(max(gallery.y.max(), queries.y.max()) + 1)[gallery.y]

    def vote(distances: np.ndarray, start: int) -> np.ndarray:
        voters = _lowest(distances, k)
        votes = voters @ member
        similarity = np.where(voters, 1 - distances, 0) @ member
        similarity[votes < votes.max(axis=1, keepdims=True)] = -np.inf
        return (similarity >= similarity.max(axis=1, keepdims=True) - k * TIE).argmax(axis=1)

    return _by_rows(queries.x, gallery.x, vote) == queries.y


def check_sizes(first: Labelled, second: Labelled) -> None:
    """Raise OptionError unless both have features of the same size."""
    if first.x.shape[1] != second.x.shape[1]:
        raise OptionError(
            f"got features of sizes {first.x.shape[1]} and {second.x.shape[1]}; needed those of one backbone"
        )


def _lowest(distances: np.ndarray, k: int) -> np.ndarray:
    """Return which k of each row are the lowest, bool; of ties those with the lowest index."""
    last = np.partition(distances, k - 1, axis=1)[:, k - 1, None]
    surely = distances < last - TIE
    tied = ~surely & (distances <= last + TIE)
    places_left = k - surely.sum(axis=1, keepdims=True)
    return surely | (tied & (tied.cumsum(axis=1) <= places_left))


def _by_rows(
    x: np.ndarray, others: np.ndarray, reduce: Callable[[np.ndarray, int], np.ndarray]
) -> np.ndarray:
    """Return ``reduce(cosine distances of some rows to all others, first row)``, for all rows in turn."""
    from sklearn.metrics import pairwise_distances_chunked

    parts = pairwise_distances_chunked(
        x.astype(np.float64),
        others.astype(np.float64),
        metric="cosine",
        reduce_func=reduce,
        working_memory=WORKING_MIB,
    )
    return np.concatenate(list(parts))
