"""Maps of a model that forgets block by block: one that stays as it was says nothing of what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ttr.datasets.registry import Item, draw_sample
from ttr.drawing.tables import printed
from ttr.evaluate.randomisation import UNCHANGED, rank_correlation, rise, shuffling
from ttr.progress import progress_bar
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.statistics.contrasts import level
from ttr.statistics.estimates import Groups
from ttr.studies.localize.looking import Looker

#: Images at most; a cascade takes a pass a block of each.
IMAGES = 16
CASCADE = ("arm", "method", "blocks", "correlation", "ci_low", "ci_high", "n")
COMPLEXITY = ("arm", "method", "rise", "ci_low", "ci_high", "n")


@dataclass(frozen=True, eq=False)
class Sanity:
    """What becomes of maps when a model forgets.

    Attributes:
        cascade: a row an arm, method and number of shuffled ``blocks``, counted from the last on, with the
            columns :data:`CASCADE`; ``correlation`` is the mean rank correlation with the whole model's map.
        complexity: a row an arm and method, with the columns :data:`COMPLEXITY`; ``rise`` is by which share
            the map is more complex when all blocks are shuffled, over the ``n`` images whose map says
            something.
    """

    cascade: pd.DataFrame
    complexity: pd.DataFrame


def sanity(looker: Looker, items: Sequence[Item], arms: Sequence[Arm], run: Run) -> Sanity:
    """Return how like each map stays as the last blocks are shuffled, and how complex it ends.

    Intervals are 95 % over images, or groups. The head stays, and so does the class that is asked for.

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
    maps = whole
    with (
        shuffling(looker.backbone, run.seed) as shuffle,
        progress_bar("sanity", blocks, show=run.progress) as advance,
    ):
        for count in range(1, blocks + 1):
            shuffle(blocks - count)
            maps = _maps(seen, sample, run)
            rows += [(*kind, count, *_alike(whole[kind], maps[kind], groups), len(sample)) for kind in maps]
            advance(1)
    table = pd.DataFrame(rows, columns=list(CASCADE))
    risen = [(*kind, *_rise(whole[kind], maps[kind], groups)) for kind in whole]
    return Sanity(
        table.sort_values(["arm", "method", "blocks"], kind="stable", ignore_index=True),
        pd.DataFrame(risen, columns=list(COMPLEXITY)),
    )


def flagged(found: Sanity) -> list[str]:
    """Say which maps hardly depend on what the model learned, a sentence each."""
    last = found.cascade[found.cascade.blocks == found.cascade.blocks.max()]
    alike = [
        f"with all {row.blocks} blocks shuffled the {row.method} maps of {row.arm} stay alike (rank "
        f"correlation {row.correlation:.2f}): they show the image more than what the model learned"
        for row in last.itertuples()
        if row.correlation >= UNCHANGED
    ]
    return alike + [
        f"with all blocks shuffled the {row.method} maps of {row.arm} are no more complex (rise "
        f"{printed(row.rise, '{:+.1f} %', 100)}): what the model learned does not make them simpler"
        for row in found.complexity.itertuples()
        if row.n > 1 and row.rise <= 0 and not row.ci_high > 0
    ]


def _maps(looker: Looker, items: Sequence[Item], run: Run) -> dict[tuple[str, str], list[np.ndarray]]:
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for batch in looker.batches(looker.reading(items, run), run.batch_size):
        for arm, method, maps in looker.maps(batch):
            found.setdefault((arm.kind, method), []).extend(maps)
    return found


def _rise(
    whole: Sequence[np.ndarray], maps: Sequence[np.ndarray], groups: Groups
) -> tuple[float, float, float, int]:
    risen = rise(whole, maps)
    value, interval = level(risen, groups=groups)
    return value, interval.low, interval.high, int(np.isfinite(risen).sum())


def _alike(
    whole: Sequence[np.ndarray], maps: Sequence[np.ndarray], groups: Groups
) -> tuple[float, float, float]:
    pairs = zip(whole, maps, strict=True)
    value, interval = level(np.array([rank_correlation(a, b) for a, b in pairs]), groups=groups)
    return value, interval.low, interval.high
