"""LOST on the test images: how often the one box that it finds, without any label, holds an object.

CorLoc with the keys as they are, and with their mean over the image taken away (``lost-centred``), which is
no part of LOST: see :mod:`ttr.evaluate.discovery`. Every arm looks at the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from ttr.datasets.registry import Item, groups_of
from ttr.evaluate.discovery import hits, lost
from ttr.forward.keys import patch_keys
from ttr.progress import progress_bar
from ttr.run import Run
from ttr.statistics.contrasts import Contrast, contrast, level
from ttr.statistics.estimates import Groups
from ttr.statistics.inference import mcnemar
from ttr.statistics.verdict import MARGIN, judge_families
from ttr.studies.bench.tables import PAIRS
from ttr.studies.localize.looking import Looker

#: Whether the mean of an image's keys is taken away.
WAYS = {"lost": False, "lost-centred": True}
COLUMNS = ("arm", "method", "corloc", "ci_low", "ci_high", "n", "positive")
PAIR_COLUMNS = (
    *("method", "metric", "first", "second", "difference", "ci_low", "ci_high", "p", "n"),
    *("only_first", "only_second", "p_mcnemar", "family"),
)


@dataclass(frozen=True, eq=False)
class Discovery:
    """What was found.

    Attributes:
        items: the N images.
        found: {(arm, way): whether the box holds an object, float64 [N]}; draws of a random arm are averaged.
        positive: {(arm, way): share of pairs of patches that correlate positively}; near 1 nothing was told
            apart, and the box is the whole image.
    """

    items: tuple[Item, ...] = field(repr=False)
    found: dict[tuple[str, str], np.ndarray] = field(repr=False)
    positive: dict[tuple[str, str], float]


def discover(looker: Looker, items: Sequence[Item], run: Run) -> Discovery:
    """Look for one object in each image under every arm; methods and classes of the looker play no part."""
    held: dict[tuple[str, str], dict[str, list[bool]]] = {}
    alike: dict[tuple[str, str], list[float]] = {}
    looker, size = replace(looker, finds_boxes=True), looker.backbone.patch_size
    with progress_bar("discovery", len(items), show=run.progress) as advance:
        for batch in looker.batches(looker.reading(items, run), run.batch_size):
            images = torch.stack([each.pixels for each in batch])
            truth = [each.boxes for each in batch]
            for arm in looker.arms:
                with arm.applied(looker.backbone):
                    keys = patch_keys(looker.backbone, images)
                for way, centred in WAYS.items():
                    there = lost(keys, batch[0].truth.grid, centred=centred)
                    kind = (arm.kind, way)
                    held.setdefault(kind, {}).setdefault(arm.name, []).extend(hits(there, truth, size))
                    alike.setdefault(kind, []).extend(there.positive.tolist())
            advance(len(batch))
    found = {kind: np.mean([*draws.values()], axis=0) for kind, draws in held.items()}
    return Discovery(tuple(items), found, {kind: float(np.mean(each)) for kind, each in alike.items()})


def corloc(made: Discovery) -> pd.DataFrame:
    """Return one row an arm and way, with the columns :data:`COLUMNS`; 95 % over images, or groups."""
    groups = groups_of(made.items)
    rows = []
    for kind, values in made.found.items():
        value, interval = level(values, groups=groups, shares=True)
        rows.append((*kind, value, interval.low, interval.high, len(values), made.positive[kind]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def pairs(made: Discovery, *, margin: float = MARGIN, seed: int = 42) -> pd.DataFrame:
    """Return the differences between arms on the same images; columns as of the maps' differences.

    Beside the sign flips of ``p`` stands McNemar's exact test: ``p_mcnemar`` of ``only_first`` and
    ``only_second``, the images in which one arm alone found an object. All three are NaN where draws were
    averaged, and ``p_mcnemar`` where images belong to groups.
    """
    groups, rows = groups_of(made.items), []
    contrasts: list[Contrast] = []
    for way in WAYS:
        for first, second in PAIRS:
            if {(first, way), (second, way)} <= set(made.found):
                values = [(1.0, made.found[first, way]), (-1.0, made.found[second, way])]
                each = contrast(values, groups=groups, shares=True, seed=seed)
                ends = (each.value, each.interval.low, each.interval.high, each.p, each.n)
                alone = _mcnemar(made.found[first, way], made.found[second, way], groups)
                rows.append((way, "corloc", first, second, *ends, *alone, f"{way}, between arms"))
                contrasts.append(each)
    table = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    judged = judge_families(contrasts, table["family"], margin) if contrasts else []
    return table.join(pd.DataFrame([each.columns() for each in judged]))


def _mcnemar(first: np.ndarray, second: np.ndarray, groups: Groups) -> tuple[float, float, float]:
    """Return how often one of two arms alone found an object, and the test's p."""
    both = np.stack([first, second])
    if not np.isin(both, (0, 1)).all():
        return np.nan, np.nan, np.nan
    found = mcnemar(*both.astype(bool))
    return found.only_a, found.only_b, found.p if groups is None else np.nan


def told(table: pd.DataFrame) -> str:
    """Say in one sentence how often the box held an object."""
    parts = [
        f"{way} {', '.join(f'{row.arm} {row.corloc:.3f}' for row in rows.itertuples())}"
        for way, rows in table.groupby("method", sort=False)
    ]
    return f"the box that LOST finds without labels holds an object (CorLoc): {'; '.join(parts)}"
