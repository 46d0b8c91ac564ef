"""From what was measured to what is to be done: where a model has outliers, and which remedy it needs.

A block *has* outliers where the lower end of the 95 % interval of its share is above :data:`FLOOR`, a patch
in a thousand: the tail of a clean map holds single patches a little above the threshold. It has *none* where
the upper end is at most that, or where at most a tenth of the images (:data:`CEILING`, the upper end, too)
can hold any. Else the images are too few to say.

The end of a model is its last two blocks: in DINOv2 the last one can hide outliers that the one before shows
(detection reads that one, too).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ttr.analysis.outliers import EXCESS, SHARE
from ttr.statistics.estimates import CONFIDENCE, Interval, share
from ttr.statistics.score_intervals import critical
from ttr.studies.scan.measure import Scanned
from ttr.wording import listed, sentence

#: Share of patches, and share of images; see above.
FLOOR, CEILING = 0.001, 0.1
#: So many images, none of which has an outlier patch, are enough to call a model clean.
ENOUGH = math.ceil(critical(CONFIDENCE, math.inf) ** 2 * (1 - CEILING) / CEILING)

State = Literal["dirty", "clean", "open"]
NONE_NEEDED, THERE, TTR = "none needed", "registers already there", "TTR"
LEFT = "outliers left in a register-trained model"
VANISH = "outliers that vanish before the last block"
UNSAID = "cannot be said: too few images"
#: In the order in which they are told, with what each asks of people.
REMEDIES = {
    TTR: "test-time registers: ttr detect, then ttr compare",
    LEFT: "its registers do not hold them all; ttr detect says whether test-time registers can",
    VANISH: "maps of the last block are not touched; those of the blocks between are",
    THERE: "nothing: trained registers, and no outliers",
    NONE_NEEDED: "nothing: no outliers",
    UNSAID: f"more images: {ENOUGH} without a single outlier patch would do",
}


@dataclass(frozen=True)
class Verdict:
    """What is to be done about one model at one size.

    Attributes:
        state: ``"dirty"``, ``"clean"``, or ``"open"`` where the images are too few to say.
        remedy: one of :data:`REMEDIES`.
        first: first block with outliers, None without.
        last: last block with outliers.
        score: artifact score, the largest excess of all blocks (:mod:`ttr.analysis.outliers`), mean over the
            images, 0..1.
        interval: of the score, over the images.
        largest: largest outlier share of all blocks.
    """

    state: State
    remedy: str
    first: int | None
    last: int | None
    score: float
    interval: Interval
    largest: float


def state_of(shares: np.ndarray) -> State:
    """Return whether a block has outliers, by the outlier share of each image, float [N], 0..1."""
    patches = share(shares).interval()
    if patches.low > FLOOR:
        return "dirty"
    images = share((shares > 0).astype(float)).interval()
    return "clean" if patches.high <= FLOOR or images.high <= CEILING else "open"


def verdict(scanned: Scanned) -> Verdict:
    """Return what is to be done about one model at one size."""
    states = [state_of(scanned.values[:, block, SHARE]) for block in range(scanned.blocks)]
    dirty = [block for block, state in enumerate(states) if state == "dirty"]
    means = scanned.values.mean(axis=0)
    score = share(scanned.values[:, int(means[:, EXCESS].argmax()), EXCESS])
    return Verdict(
        state="dirty" if dirty else "open" if "open" in states else "clean",
        remedy=_remedy(states, scanned.registers),
        first=dirty[0] if dirty else None,
        last=dirty[-1] if dirty else None,
        score=score.value,
        interval=score.interval(),
        largest=float(means[:, SHARE].max()),
    )


def _remedy(states: list[State], registers: int) -> str:
    """Return the remedy that the states of all blocks, in order, ask for."""
    if "dirty" not in states:
        clean = THERE if registers else NONE_NEEDED
        return UNSAID if "open" in states else clean
    end = states[-2:]
    if "dirty" in end:
        return LEFT if registers else TTR
    return UNSAID if "open" in end else VANISH


def answer(found: list[tuple[Scanned, Verdict]]) -> str:
    """Return one sentence: the models that need a remedy, and which, for each remedy."""
    told = []
    for remedy in REMEDIES:
        models = [_where(scanned, said) for scanned, said in found if said.remedy == remedy]
        if models:
            told.append(f"for {listed(models)}: {remedy}")
    return sentence("; ".join(told))


def _where(scanned: Scanned, said: Verdict) -> str:
    """Return a model, and the blocks with outliers where it has some."""
    if said.first is None or said.last is None:
        return scanned.called
    where = "outliers from block {} on" if said.last == scanned.blocks - 1 else "outliers in blocks {}..{}"
    most = f"at most {100 * said.largest:.1f} % of the patches"
    return f"{scanned.called} ({where.format(said.first, said.last)}, {most})"
