"""One-shot classification: one labelled image a class, and the most similar one names the query.

It is how Lappe and Giese (2025) ask what a feature carries without training anything: the exemplars are
full features, the queries may be those of an ablated model. Which image stands for its class is a matter of
luck, so the draw is repeated, and each query has a share of draws instead of a right or wrong. The draws
follow from the seed and the support alone: two conditions are compared on the same exemplars.
"""

from __future__ import annotations

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
    from sklearn.preprocessing import normalize

    integer("draws", draws, 1)
    check_sizes(support, queries)
    classes = np.unique(support.y)
    strange = np.setdiff1d(queries.y, classes)
    if strange.size:
        raise OptionError(f"class {strange[0]} of the queries has no support image; add one, or leave it out")
    members = [np.flatnonzero(support.y == label) for label in classes]
    generator = np.random.default_rng(seed)
    known, asked = (normalize(part.x.astype(np.float64)) for part in (support, queries))
    right = np.zeros(len(queries.y))
    for _ in range(draws):
        exemplars = known[[generator.choice(found) for found in members]]
        similarity = asked @ exemplars.T
        closest = (similarity >= similarity.max(axis=1, keepdims=True) - TIE).argmax(axis=1)
        right += classes[closest] == queries.y
    return right / draws
