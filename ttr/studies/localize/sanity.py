"""Maps of a model that forgets block by block: one that stays as it was says nothing of what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ttr.datasets.registry import Item, draw_sample
from ttr.evaluate.randomisation import UNCHANGED, rank_correlation, shuffling
from ttr.progress import progress_bar
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.statistics.contrasts import level
from ttr.statistics.estimates import Groups
from ttr.studies.localize.looking import Looker

#: Images at most; a cascade takes a pass a block of each.
IMAGES = 16
COLUMNS = ("arm", "method", "blocks", "correlation", "ci_low", "ci_high", "n")


def sanity(looker: Looker, items: Sequence[Item], arms: Sequence[Arm], run: Run) -> pd.DataFrame:
    """Return how like each map stays as the last blocks are shuffled, with the columns :data:`COLUMNS`.

    ``blocks`` counts the shuffled blocks from the last on, ``correlation`` is the mean rank correlation with
    the map of the whole model, with a 95 % interval over images, or groups. The head stays, and so does the
    class that is asked for.

    Args:
        looker: what makes the maps; its weights are what they were afterwards.
        items: readable images, of which a seeded sample of 16 is looked at.
        arms: of the looker, those to look at.
        run: how.
    """
    sample = draw_sample(items, IMAGES, run.seed)
    seen = replace(looker, arms=arms)
    blocks = looker.backbone.num_layers
    groups = tuple(item.unit for item in sample) if any(item.group for item in sample) else None
    whole = _maps(seen, sample, run)
    rows: list[tuple] = []
    with (
        shuffling(looker.backbone, run.seed) as shuffle,
        progress_bar("sanity", blocks, show=run.progress) as advance,
    ):
        for count in range(1, blocks + 1):
            shuffle(blocks - count)
            for kind, maps in _maps(seen, sample, run).items():
                rows.append((*kind, count, *_alike(whole[kind], maps, groups), len(sample)))
            advance(1)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["arm", "method", "blocks"], kind="stable", ignore_index=True)


def unchanged(table: pd.DataFrame) -> list[str]:
    """Say which maps are hardly changed by a model that has forgotten everything, a sentence each."""
    last = table[table.blocks == table.blocks.max()]
    return [
        f"with all {row.blocks} blocks shuffled the {row.method} maps of {row.arm} stay alike (rank "
        f"correlation {row.correlation:.2f}): they show the image more than what the model learned"
        for row in last.itertuples()
        if row.correlation >= UNCHANGED
    ]


def _maps(looker: Looker, items: Sequence[Item], run: Run) -> dict[tuple[str, str], list[np.ndarray]]:
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for batch in looker.batches(looker.reading(items, run), run.batch_size):
        for arm, method, maps in looker.maps(batch):
            found.setdefault((arm.kind, method), []).extend(maps)
    return found


def _alike(
    whole: Sequence[np.ndarray], maps: Sequence[np.ndarray], groups: Groups
) -> tuple[float, float, float]:
    pairs = zip(whole, maps, strict=True)
    value, interval = level(np.array([rank_correlation(a, b) for a, b in pairs]), groups=groups)
    return value, interval.low, interval.high
