"""One-shot classification as published, ``oneshot.csv``: one exemplar and one test image a class, many times.

A row is a part, what it is of, and k:

    backbone, block, num_registers, part (full: nothing left out)
    of          output (of the model, exemplars being whole features of training images) | attention (what
                attention alone gives CLS; the exemplar is another test image, of another patient)
    top         k: right is a test image whose class is among the k most similar
    accuracy    mean of :data:`DRAWS` draws
    ci_low, ci_high         its 95 % interval, over test images
    draws_low, draws_high   within which 95 % of the single draws lie
    chance      k / C
    classes     C, the candidates
    images      test images to draw from
    missing     why there is no number, else empty: a top-k of C <= k classes cannot fail
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.analysis.integration import PARTS
from ttr.backbones.base import Backbone
from ttr.evaluate.oneshot import OneEach, balanced, one_each
from ttr.evaluate.probe import Labelled
from ttr.statistics.contrasts import level
from ttr.studies.integrate.parts import ATTENDED, PartSamples, Place

DRAWS = 100
TOPS = (1, 5)
OUTPUT, ATTENTION = "output", "attention"
ENDS = ("ci_low", "ci_high", "draws_low", "draws_high")
NAN = float("nan")
Groups = Sequence[str] | None


def oneshot_table(
    found: PartSamples,
    backbone: Backbone,
    train: dict[int, Labelled],
    labels: np.ndarray,
    *,
    groups: Groups = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return the rows of ``oneshot.csv``; see the module for the columns.

    Args:
        found: measured on the test images.
        backbone: as measured.
        train: {number of registers: full features of the training images}.
        labels: classes of the test images, int [images].
        groups: of the test images.
        seed: of the draws.
    """
    rows = []
    for (registers, block, kind), each in _draws(found, train, labels, groups, seed):
        place = {
            "backbone": backbone.name,
            "block": block,
            "num_registers": registers,
            "part": kind.removeprefix(ATTENDED),
            "of": ATTENTION if kind.startswith(ATTENDED) else OUTPUT,
        }
        rows += [{**place, "top": k, **_top(each, k, labels, groups), "images": found.images} for k in TOPS]
    table = pd.DataFrame(rows)
    return table[[*(name for name in table if name != "missing"), "missing"]]


def _draws(
    found: PartSamples, train: dict[int, Labelled], labels: np.ndarray, groups: Groups, seed: int
) -> Iterator[tuple[Place, OneEach]]:
    apart = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    for place, vectors in found.vectors.items():
        registers, block, kind = place
        queries = Labelled(np.array(vectors), labels)
        if kind in (*PARTS, "full"):
            yield place, one_each(train[registers], queries, tops=TOPS, draws=DRAWS, seed=seed)
        elif kind.startswith(ATTENDED):
            whole = Labelled(np.array(found.vectors[registers, block, f"{ATTENDED}full"]), labels)
            yield place, one_each(whole, queries, tops=TOPS, draws=DRAWS, seed=seed, apart=apart)


def _top(each: OneEach, k: int, labels: np.ndarray, groups: Groups) -> dict[str, Any]:
    """Return the accuracy of the k nearest as columns; none where it cannot fail."""
    known = {"chance": min(1.0, k / each.classes), "classes": each.classes, "missing": ""}
    why = f"top-{k} cannot fail with {each.classes} classes" if each.classes <= k else ""
    if not each.asked.any():
        why = "no class has two test images (of two patients)"
    if why:
        return {"accuracy": NAN, **dict.fromkeys(ENDS, NAN), **known, "missing": why}
    value, interval = level(
        lambda weights: balanced(each.hits[k], each.asked, labels, weights),
        count=len(labels),
        groups=groups,
        shares=True,
    )
    numbers = (interval.low, interval.high, *np.percentile(each.accuracies[k], (2.5, 97.5)))
    return {"accuracy": value, **dict(zip(ENDS, map(float, numbers), strict=True)), **known}
