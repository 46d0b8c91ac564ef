"""Every arm's maps against the outlines of a set, image by image.

Test images are scored by every metric. Validation images only choose, for each arm and method, where the map
is cut for the IoU at the best threshold. Beside the arms stand two maps that no model made: random numbers,
and a centred Gaussian. Images pass in batches, and what stays of one are its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ttr.datasets.registry import Item, Outlines, Split, draw_sample, groups_of
from ttr.digests import sha256
from ttr.errors import DataError
from ttr.evaluate.insertion import areas, curve_names
from ttr.evaluate.localisation import (
    AT_BEST,
    BOXED,
    METRICS,
    THRESHOLDS,
    Truth,
    best_threshold,
    centred_gaussian,
    iou_at,
    is_flat,
)
from ttr.progress import progress_bar
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.localize.looking import Looker, Seen
from ttr.wording import counted

RANDOM_MAP, CENTRE_MAP = "random-map", "centre-map"
#: What the method of a map is called that no model made.
NO_METHOD = "baseline"
#: Random maps of an image, whose numbers are averaged.
RANDOM_MAPS = 30
#: An arm and a method.
Kind = tuple[str, str]
Metric = Callable[[np.ndarray, Truth], float]
BASELINES: tuple[Kind, ...] = ((RANDOM_MAP, NO_METHOD), (CENTRE_MAP, NO_METHOD))


@dataclass(frozen=True, eq=False)
class Localisation:
    """What was measured.

    Attributes:
        items: the N test images that were scored.
        shares: what share of each lies inside its outline, float64 [N].
        values: {(arm, method): {metric: float64 [N]}}; draws of a random arm are averaged image by image.
            The two baselines are there, too; of their curves those under the first arm.
        thresholds: {(arm, method): where its maps were cut}; empty without validation images.
        curves: {(arm, method): the label's probability along the curves, float64 [N, K, S]}, where asked for;
            of a baseline's map under an arm the method is the baseline's name.
        curve_names: K of them.
        flat: {(arm, method): share of its maps that are one number all over}, where there are some.
        skipped: {name: reason} of images that could not be read.
        notes: what else was left out, a sentence each.
    """

    items: tuple[Item, ...] = field(repr=False)
    shares: np.ndarray = field(repr=False)
    values: dict[Kind, dict[str, np.ndarray]] = field(repr=False)
    thresholds: dict[Kind, float]
    curves: dict[Kind, np.ndarray] = field(repr=False)
    curve_names: tuple[str, ...]
    flat: dict[Kind, float]
    skipped: dict[str, str]
    notes: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Groups of the images, or None."""
        return groups_of(self.items)

    @property
    def kinds(self) -> list[Kind]:
        """The arms and methods, without the baselines."""
        return [kind for kind in self.values if kind not in BASELINES]

    def beside(self, baseline: Kind, arm: str) -> dict[str, np.ndarray]:
        """Return the numbers of a baseline, {metric: float64 [N]}; its curves' are those under that arm."""
        own = self.curves.get((arm, baseline[0]))
        values = self.values[baseline]
        return values if own is None else values | _areas(own, self.curve_names)


def localise(
    looker: Looker,
    run: Run,
    num_images: int | None = None,
    *,
    blanks: Sequence[str] = (),
    boxes: bool = False,
) -> Localisation:
    """Score every arm and method on the test images that have an outline.

    Args:
        looker: what makes the maps.
        run: how.
        num_images: test images at most, drawn with the run's seed, and validation images; None: all.
        blanks: along which insertion and deletion are followed on the test images, too; needs classes.
        boxes: score by :data:`ttr.evaluate.localisation.BOXED`, too.

    Raises:
        DataError: no test image has an outline, or none that the model can see.
        ImageError: a bad image or mask, with ``on_error="raise"``, or not a single readable one.
        TTRError: as :func:`ttr.attribution.attribute.attribute` does.
    """
    outlines = Outlines.of(looker.dataset)
    outlines.required("test")
    chosen: dict[Split, list[Item]] = {
        split: draw_sample(outlines.items(split), num_images, run.seed) for split in ("val", "test")
    }
    skipped: dict[str, str] = {}
    scored: dict[Split, _Scores] = {}
    with progress_bar("maps", sum(map(len, chosen.values())), show=run.progress) as advance:
        for split, items in chosen.items():
            metrics = METRICS | (BOXED if boxes else {})
            scored[split] = _Scores(run.seed, metrics, blanks if split == "test" else (), run.batch_size)
            reading = looker.reading(items, run)
            for batch in looker.batches(reading, run.batch_size) if items else ():
                scored[split].add(looker, batch)
                advance(len(batch))
            skipped |= reading.skipped
    test, val = scored["test"], scored["val"]
    if not test.items:
        raise DataError(
            f"of {counted(len(chosen['test']), 'test image')} of {looker.dataset.name} none has an outline "
            f"that a model of {'x'.join(map(str, looker.backbone.image_size))} px sees a part of; give a "
            "larger --image-size, or other masks"
        )
    notes = tuple(filter(None, (test.said(), "" if val.items else _no_validation(looker))))
    return _measured(test, val, skipped, notes)


class _Scores:
    """Numbers of the maps of some images: a row an image, the metrics and then an IoU a threshold.

    With blanks, insertion and deletion are followed as well, ``size`` images a pass.
    """

    def __init__(self, seed: int, metrics: Mapping[str, Metric], blanks: Sequence[str], size: int) -> None:
        self.seed, self.metrics, self.blanks, self.size = seed, metrics, blanks, size
        self.curves: dict[Kind, dict[str, list[np.ndarray]]] = {}
        self.items: list[Item] = []
        self.shares: list[float] = []
        self.rows: dict[Kind, dict[str, list[np.ndarray]]] = {}
        self.flat: dict[Kind, list[bool]] = {}
        self.unseen = self.covered = 0

    def add(self, looker: Looker, batch: Sequence[Seen]) -> None:
        """Score a batch by all arms and methods, and by the baselines; outlines that say nothing go."""
        self.unseen += sum(not each.truth.share for each in batch)
        self.covered += sum(each.truth.share == 1 for each in batch)
        batch = [each for each in batch if 0 < each.truth.share < 1]
        if not batch:
            return
        self.items += [each.item for each in batch]
        self.shares += [each.truth.share for each in batch]
        for arm, method, maps in looker.maps(batch):
            kind = (arm.kind, method)
            scores = [self._scores(map_, each) for map_, each in zip(maps, batch, strict=True)]
            self.rows.setdefault(kind, {}).setdefault(arm.name, []).extend(scores)
            self.flat.setdefault(kind, []).extend(map(is_flat, maps))
            if self.blanks:
                self._follow(looker, batch, arm, method, maps)
        for (name, method), made in zip(BASELINES, (self._random, self._centred), strict=True):
            rows = self.rows.setdefault((name, method), {}).setdefault(name, [])
            rows.extend(made(each) for each in batch)

    def of(self, kind: Kind) -> np.ndarray:
        """Return the rows of an arm and method, its draws averaged, float64 [N, M]."""
        return _averaged(self.rows[kind])

    def _follow(self, looker: Looker, batch: Sequence[Seen], arm: Arm, method: str, maps: np.ndarray) -> None:
        """Follow the curves of maps under an arm that is applied, with its first method the baselines'."""
        made: dict[str, Sequence[np.ndarray]] = {method: list(maps)}
        if method == looker.methods[0]:
            made[RANDOM_MAP] = [self._generator(each).random(each.truth.grid) for each in batch]
            made[CENTRE_MAP] = [centred_gaussian(each.truth.grid) for each in batch]
        seeds = [[self.seed, _number(each)] for each in batch]
        for name, own in made.items():
            found = self.curves.setdefault((arm.kind, name), {}).setdefault(arm.name, [])
            found.extend(looker.curves(batch, own, seeds, self.blanks, self.size))

    def said(self) -> str:
        """Say which outlines said nothing."""
        parts = []
        if self.unseen:
            lost = "whose outline is empty, cut away or too small for the model's pixels"
            parts.append(f"{counted(self.unseen, 'image')} {lost}")
        if self.covered:
            parts.append(f"{counted(self.covered, 'image')} that the outline covers whole")
        return f"left out: {' and '.join(parts)}" if parts else ""

    def _random(self, seen: Seen) -> np.ndarray:
        return random_scores(seen.truth, self._generator(seen), self.metrics)

    def _centred(self, seen: Seen) -> np.ndarray:
        return centre_scores(seen.truth, self.metrics)

    def _scores(self, relevance: np.ndarray, seen: Seen) -> np.ndarray:
        return scores_of(relevance, seen.truth, self.metrics)

    def _generator(self, seen: Seen) -> np.random.Generator:
        """Return the draws of an image, whatever comes before it."""
        return np.random.default_rng([self.seed, _number(seen)])


def scores_of(relevance: np.ndarray, truth: Truth, metrics: Mapping[str, Metric] = METRICS) -> np.ndarray:
    """Return what a map scores by each of the metrics, and its IoU at each of THRESHOLDS, float64 [M]."""
    return np.array(
        [*(metric(relevance, truth) for metric in metrics.values()), *iou_at(relevance, truth, THRESHOLDS)]
    )


def random_scores(
    truth: Truth, generator: np.random.Generator, metrics: Mapping[str, Metric] = METRICS
) -> np.ndarray:
    """Return what :data:`RANDOM_MAPS` maps of random numbers score on average, as :func:`scores_of`."""
    maps = generator.random((RANDOM_MAPS, *truth.grid))
    return np.mean([scores_of(each, truth, metrics) for each in maps], axis=0)


def centre_scores(truth: Truth, metrics: Mapping[str, Metric] = METRICS) -> np.ndarray:
    """Return what a centred Gaussian scores, as :func:`scores_of`."""
    return scores_of(centred_gaussian(truth.grid), truth, metrics)


def _number(seen: Seen) -> int:
    return int(sha256([seen.item.draw_name], 8), 16)


def _averaged(draws: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Return what several draws of an arm found, their mean image by image."""
    return np.mean([np.array(found) for found in draws.values()], axis=0)


def _areas(curves: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    return dict(zip(names, areas(curves).T, strict=True))


def _no_validation(looker: Looker) -> str:
    return f"no validation image of {looker.dataset.name} has an outline, so {AT_BEST} is left out"


def _measured(test: _Scores, val: _Scores, skipped: dict[str, str], notes: tuple[str, ...]) -> Localisation:
    values, thresholds = {}, {}
    metrics, names = test.metrics, curve_names(test.blanks)
    curves = {kind: _averaged(draws) for kind, draws in test.curves.items()}
    first = next((arm for arm, _ in curves), "")
    for kind in test.rows:
        rows = test.of(kind)
        values[kind] = dict(zip(metrics, rows.T, strict=False))
        if val.items:
            best = best_threshold(val.of(kind)[:, len(metrics) :])
            values[kind][AT_BEST] = rows[:, len(metrics) + best]
            thresholds[kind] = float(THRESHOLDS[best])
        followed = curves.get((first, kind[0]) if kind in BASELINES else kind)
        values[kind] |= {} if followed is None else _areas(followed, names)
    flat = {kind: float(np.mean(each)) for kind, each in test.flat.items() if any(each)}
    return Localisation(
        tuple(test.items), np.array(test.shares), values, thresholds, curves, names, flat, skipped, notes
    )
