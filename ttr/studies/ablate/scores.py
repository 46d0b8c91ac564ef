"""Each task's numbers of a measured ablation, one an image: what tables, tests and model comparisons share.

probe            top1          right or wrong, by the head that was trained in the full condition
                 top1_own      by a head trained on this condition's own features
knn              recall_at_1   nearest other test image, all in this condition
                 knn_accuracy  majority of the 5 nearest training images in the full condition
oneshot          accuracy      share of draws, exemplars from the full condition
correspondence   pck_0.1, nearest_patch
segmentation     miou          no mean over images: a function of how often each image counts
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ttr.datasets.registry import groups_of
from ttr.evaluate.knn import knn_correct, recall_at_1
from ttr.evaluate.oneshot import oneshot
from ttr.evaluate.probe import Labelled, labelled, probabilities
from ttr.evaluate.segmentation import miou_resampled
from ttr.features.trained import trained
from ttr.progress import progress_bar
from ttr.statistics.contrasts import Measured as Number
from ttr.studies.ablate.collected import Collected
from ttr.studies.ablate.conditions import FULL
from ttr.studies.ablate.donors import case_of, class_by_chance
from ttr.studies.ablate.experiment import Measured

METRICS = {
    "probe": ("top1", "top1_own"),
    "knn": ("recall_at_1", "knn_accuracy"),
    "correspondence": ("pck_0.1", "nearest_patch"),
    "segmentation": ("miou",),
    "oneshot": ("accuracy",),
}
NEIGHBOURS = 5


@dataclass(frozen=True)
class Donated:
    """Whose tokens stood in for an image's, over images and blocks; shares 0..1.

    Attributes:
        same_class: of donors of the image's own class.
        by_chance: of its class among all images of other groups.
        same_group: of donors of its own group; NaN where the set has no groups.
    """

    same_class: float
    by_chance: float
    same_group: float


@dataclass(frozen=True, eq=False)
class Score:
    """One metric of one condition.

    Attributes:
        condition: its name.
        task: of :data:`METRICS`.
        metric: its name.
        number: one an image, float64 [N] (NaN: not defined for it), or a statistic of resampled images.
        images: names of the N images (pairs).
        groups: their groups, or None where the set has none.
        confusions: of segmentation, int64 [N, C, C].
        donors: whose tokens stood in, where it was other images'.
    """

    condition: str
    task: str
    metric: str
    number: Number
    images: tuple[str, ...]
    groups: tuple[str, ...] | None
    confusions: np.ndarray | None = None
    donors: Donated | None = None

    @property
    def per_image(self) -> np.ndarray:
        """One number an image, float64 [N]; for mIoU the image's own, which does not average to it."""
        if self.confusions is None:
            assert isinstance(self.number, np.ndarray)
            return self.number
        return miou_resampled(self.confusions, np.eye(len(self.confusions)))


def scores(measured: Measured) -> list[Score]:
    """Return every metric of every condition; heads come from the cache where they were trained before."""
    settings = measured.settings
    found: list[Score] = []
    with progress_bar("heads", len(measured.conditions), show=measured.run.progress) as advance:
        for condition in measured.conditions:
            found += _vector_scores(measured, condition.name)
            advance(1)
    for condition in measured.conditions:
        found += _dense_scores(measured, condition.name)
    order = {task: index for index, task in enumerate(settings.tasks)}
    return sorted(found, key=lambda score: order[score.task])


def _vector_scores(measured: Measured, condition: str) -> Iterator[Score]:
    dataset, settings, run = measured.dataset, measured.settings, measured.run
    items = measured.scored.items
    x, y = measured.scored.arrays[condition]["embedding"], dataset.targets(items)
    groups = groups_of(items)
    made = partial(
        Score,
        condition,
        images=tuple(item.name for item in items),
        groups=groups,
        donors=_donated(measured, measured.scored, condition),
    )

    def right(vectors: np.ndarray) -> np.ndarray:
        known = measured.training.items
        train, val = (labelled(dataset, known, vectors, split) for split in ("train", "val"))
        head = trained(run.shelves, settings.head, train, val, dataset.classes, run.seed)
        return (probabilities(head, x).argmax(axis=1) == y).astype(np.float64)

    full = measured.training.arrays[FULL.name]["embedding"]
    if "probe" in settings.tasks:
        yield made("probe", "top1", right(full))
        yield made("probe", "top1_own", right(measured.training.arrays[condition]["embedding"]))
    gallery, queries = labelled(dataset, measured.training.items, full, "train"), Labelled(x, y)
    if "knn" in settings.tasks:
        yield made("knn", "recall_at_1", recall_at_1(x, y).astype(np.float64))
        k = min(NEIGHBOURS, len(gallery.y))
        yield made("knn", "knn_accuracy", knn_correct(gallery, queries, k).astype(np.float64))
    if "oneshot" in settings.tasks:
        yield made("oneshot", "accuracy", oneshot(gallery, queries, seed=run.seed))


def _dense_scores(measured: Measured, condition: str) -> Iterator[Score]:
    arrays, items = measured.scored.arrays[condition], measured.scored.items
    names, groups = tuple(item.name for item in items), groups_of(items)
    made = partial(Score, condition, donors=_donated(measured, measured.scored, condition))
    if "pck" in arrays:
        yield made("correspondence", "pck_0.1", arrays["pck"], names, groups)
        yield made("correspondence", "nearest_patch", arrays["nearest"], names, groups)
    if measured.paired is not None:
        # Few images stand in many pairs of their category: pairs are no independent evidence, categories are.
        pairs, found = measured.paired.items, measured.paired.arrays[condition]
        places = tuple(pair.name for pair in pairs), tuple(pair.category for pair in pairs)
        paired = partial(Score, condition, donors=_donated(measured, measured.paired, condition))
        yield paired("correspondence", "pck_0.1", found["pck"], *places)
        yield paired("correspondence", "nearest_patch", found["nearest"], *places)
    if "confusion" in arrays:
        # A condition may hide what little mask an image has; who takes part is decided in full.
        there = measured.scored.arrays[FULL.name]["confusion"].sum(axis=(1, 2)) > 0
        confusions = arrays["confusion"][there]
        kept = tuple(name for name, masked in zip(names, there, strict=True) if masked)
        masked_groups = None if groups is None else tuple(np.array(groups)[there].tolist())
        number = partial(miou_resampled, confusions)
        yield made("segmentation", "miou", number, kept, masked_groups, confusions)


def _donated(measured: Measured, collected: Collected, condition: str) -> Donated | None:
    arrays = collected.arrays[condition]
    if "donor_class" not in arrays:
        return None
    cases = [case_of(item) for item in collected.items]
    resampled = next(c for c in measured.conditions if c.name == condition).substitute == "resample"
    grouped = collected is measured.paired or groups_of(collected.items) is not None
    return Donated(
        float(arrays["donor_class"].mean()),
        class_by_chance(cases, measured.subject.bank if resampled else cases),
        float(arrays["donor_group"].mean()) if grouped else float("nan"),
    )
