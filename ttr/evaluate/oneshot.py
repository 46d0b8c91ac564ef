"""One-shot classification: one labelled image a class, and the most similar one names the query.

It is how Lappe and Giese (2025) ask what a feature carries without training anything: the exemplars are
full features, the queries may be those of an ablated model. Which image stands for its class is a matter of
luck, so the draw is repeated, and each query has a share of draws instead of a right or wrong. The draws
follow from the seed and the support alone: two conditions are compared on the same exemplars.

:func:`oneshot` asks every query in every draw, :func:`one_each` as they do: one query a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.evaluate.knn import TIE, check_sizes
from ttr.evaluate.probe import Labelled


def oneshot(support: Labelled, queries: Labelled, *, draws: int = 20, seed: int) -> np.ndarray:
    """Return in which share of draws each query's most similar exemplar has its class.

    In each draw one image of every class is drawn from the support, uniformly; similarity is the cosine; of
    equally similar exemplars that of the lowest class counts.

    Args:
        support: what the exemplars are drawn from.
        queries: N features of the same size, none of them in the support.
        draws: how many times.
        seed: of the draws.

    Returns:
        float64 [N], 0..1; their mean is the one-shot accuracy.

    Raises:
        OptionError: no draws, features of two sizes, or a query whose class the support does not have.
    """
    known, asked, own = _units(support, queries, draws)
    members = _of_each_class(support.y)
    generator = np.random.default_rng(seed)
    right = np.zeros(len(queries.y))
    for _ in range(draws):
        right += _place(asked @ known[_one_of(members, generator)].T, own) < 1
    return right / draws


@dataclass(frozen=True, eq=False)
class OneEach:
    """One-shot classification of one query a class, in many draws.

    Attributes:
        classes: candidates of each answer, C.
        accuracies: {k: share of a draw's queries whose class is among the k most similar, float64 [draws]}.
        hits: {k: in how many draws each query was right so, int [N]}.
        asked: in how many draws it was asked at all, int [N].
    """

    classes: int
    accuracies: dict[int, np.ndarray]
    hits: dict[int, np.ndarray]
    asked: np.ndarray


def one_each(
    support: Labelled,
    queries: Labelled,
    *,
    tops: tuple[int, ...] = (1, 5),
    draws: int = 100,
    seed: int,
    apart: np.ndarray | None = None,
) -> OneEach:
    """Draw an exemplar and a query of every class; is the query's own among the k most similar?

    Similarity and ties are those of :func:`oneshot`. A class that no query has stays a candidate.

    Args:
        support: what the exemplars are drawn from.
        queries: N features of the same size, none of them of an image in the support but with ``apart``.
        tops: values of k.
        draws: how many times.
        seed: of the draws, which follow from it, the labels and ``apart`` alone.
        apart: where both are of the same N images, which patient each is of, int [N]: a draw's exemplar and
            query of a class are of two. A class of a single patient is not asked.

    Raises:
        OptionError: as :func:`oneshot` does.
    """
    known, asked, own = _units(support, queries, draws)
    candidates, mine = _of_each_class(support.y), _of_each_class(queries.y)
    if apart is not None:
        mine = [members for members in mine if np.ptp(apart[members])]
    generator = np.random.default_rng(seed)
    counts = np.zeros(len(own), dtype=int)
    hits = {k: np.zeros(len(own), dtype=int) for k in tops}
    accuracies = {k: np.zeros(draws) for k in tops}
    for draw in range(draws):
        exemplars = np.array(_one_of(candidates, generator))
        pools = mine
        if apart is not None:
            pools = [each[apart[each] != apart[exemplars[own[each[0]]]]] for each in mine]
        drawn = _one_of(pools, generator)
        if not drawn:
            continue
        place = _place(asked[drawn] @ known[exemplars].T, own[drawn])
        counts[drawn] += 1
        for k in tops:
            hits[k][drawn] += place < k
            accuracies[k][draw] = (place < k).mean()
    return OneEach(len(candidates), accuracies, hits, counts)


def balanced(hits: np.ndarray, asked: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean over classes of sum(w hits) / sum(w asked); with weights 1 the mean over draws.

    Args:
        hits: in how many draws each query was right, [N].
        asked: in how many it was asked, [N].
        y: classes, int [N].
        weights: how often each query counts, [R, N]; a class that counts nothing is left out.

    Returns:
        float64 [R].
    """
    member = np.unique(y, return_inverse=True)[1]
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(member.max() + 1))
    tops, bottoms = (
        np.add.reduceat((weights * counts)[:, order].astype(np.float64), starts, axis=1)
        for counts in (hits, asked)
    )
    there = bottoms > 0
    shares = np.divide(tops, bottoms, out=np.zeros_like(tops), where=there)
    return shares.sum(axis=1) / np.maximum(there.sum(axis=1), 1)


def _units(support: Labelled, queries: Labelled, draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit vectors of both, and where among the support's classes each query's own stands."""
    from sklearn.preprocessing import normalize

    integer("draws", draws, 1)
    check_sizes(support, queries)
    classes = np.unique(support.y)
    strange = np.setdiff1d(queries.y, classes)
    if strange.size:
        raise OptionError(f"class {strange[0]} of the queries has no support image; add one, or leave it out")
    known, asked = (normalize(part.x.astype(np.float64)) for part in (support, queries))
    return known, asked, np.searchsorted(classes, queries.y)


def _of_each_class(y: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(y == label) for label in np.unique(y)]


def _one_of(members: list[np.ndarray], generator: np.random.Generator) -> list[int]:
    return [generator.choice(found) for found in members]


def _place(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return how many classes stand before each query's own, [N, C] -> [N]; the lowest of equals is first."""
    true = np.take_along_axis(similarity, own[:, None], axis=1)
    first = np.arange(similarity.shape[1]) < own[:, None]
    return np.count_nonzero(similarity > np.where(first, true - TIE, true + TIE), axis=1)
