"""The benchmark: a labelled set, a backbone, its arms, and linear heads on what each arm sees.

    images x arms -> features -> a head an arm, trained on that arm's own features -> the test set

Two questions, two kinds of head. ``linear`` and ``logistic`` are trained anew on each arm's own features:
what do the features hold? ``linear:plain`` and ``logistic:plain`` were trained on the bare model's and meet
the arm's features only in the test: what happens to a deployed head when the model below it is wrapped?
All arms are tested on the same images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, Item, Split, groups_of
from ttr.digests import sha256
from ttr.errors import DataError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.metrics import Predictions
from ttr.evaluate.probe import Labelled, labelled, probabilities
from ttr.features.extract import Features, extract
from ttr.features.trained import trained
from ttr.forward.preprocessing import Preprocessing
from ttr.progress import progress_bar
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.bench.settings import BenchmarkSettings, one_seed


@dataclass(frozen=True, eq=False)
class Outcome:
    """One head of one arm, and what it said of the test set.

    Attributes:
        arm: the treatment.
        feature: what it classifies from: a feature's name, or several joined with ``+``.
        head: ``linear`` or ``logistic``, trained on the arm itself; with ``:plain``, on the bare model.
        seed: of its training.
        model: the head.
        predictions: on the test set, in the order of ``Benchmark.test``.
    """

    arm: Arm
    feature: str
    head: str
    seed: int
    model: LinearHead = field(repr=False)
    predictions: Predictions = field(repr=False)


@dataclass(frozen=True, eq=False)
class Benchmark:
    """All outcomes on one set.

    Attributes:
        dataset: the labelled set.
        outcomes: every arm, feature, head and seed.
        test: names of the test images.
        groups: their groups, or None where the set has none.
        skipped: {name: reason} of the images of any split that could not be read.
        counts: readable images a split.
        keys: what decided each arm's features.
        data: digest of the images used, see :func:`data_digest`.
    """

    dataset: Dataset
    outcomes: tuple[Outcome, ...]
    test: tuple[str, ...]
    groups: tuple[str, ...] | None
    skipped: dict[str, str]
    counts: dict[str, int]
    keys: dict[str, Any]
    data: str


def run_benchmark(
    backbone: Backbone,
    dataset: Dataset,
    arms: Sequence[Arm],
    settings: BenchmarkSettings,
    run: Run,
) -> Benchmark:
    """Run the benchmark.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set, with training, validation and test images.
        arms: the treatments, see :func:`ttr.registers.arms.arms`.
        settings: heads, features, seeds and preprocessing. An arm that lacks a feature (no register) is left
            out of that feature. Logistic regression is convex and is fitted once.
        run: how; its cache is where features and heads are kept.

    Raises:
        DataError: a split has no readable image.
        OptionError: no arm has any of the features, or the backbone is not where the run says.
        ImageError: as :func:`ttr.features.extract.extract`.
    """
    features, heads = settings.features, settings.heads
    seeds, run = one_seed(settings, run)
    preprocessing = Preprocessing(backbone, settings.steps)
    found = extract(backbone, dataset, arms, run, preprocessing=preprocessing)
    items = found[0].items
    counts = {split: sum(item.split == split for item in items) for split in ("train", "val", "test")}
    for split, count in counts.items():
        if not count:
            raise DataError(f"{dataset.name} has no readable image in its {split} split; see: ttr data check")
    plan = [
        (each, feature, head, seed)
        for each in found
        for feature in features
        if set(feature.split("+")) <= set(each.arrays)
        for head in heads
        for seed in (seeds if head == "linear" else seeds[:1])
    ]
    if not plan:
        raise OptionError(f"no arm has the features {', '.join(features)}; add an arm with registers")
    own: list[Outcome] = []
    with progress_bar("heads", len(plan), show=run.progress) as advance:
        for each, feature, head, seed in plan:
            train, val = (_labelled(dataset, each, feature, split) for split in ("train", "val"))
            model = trained(run.shelves, head, train, val, dataset.classes, seed)
            own.append(_tested(dataset, each, feature, head, seed, model))
            advance(1)
    deployed = [
        _tested(dataset, each, known.feature, f"{known.head}:plain", known.seed, known.model)
        for known in own
        if known.arm.name == "plain"
        for each in found
    ]
    test = [item for item in items if item.split == "test"]
    return Benchmark(
        dataset=dataset,
        outcomes=(*own, *deployed),
        test=tuple(item.name for item in test),
        groups=groups_of(test),
        skipped=found[0].skipped,
        counts=counts,
        keys={f"{each.arm.name}, {each.arm.num_registers} registers": each.key for each in found},
        data=data_digest(items, found[0].contents),
    )


def data_digest(items: Sequence[Item], contents: Mapping[str, str]) -> str:
    """Return the SHA-256 of the images of a run, in hexadecimal, whatever their order.

    It is taken over a JSON list a line, [name, split, label, group, content hash], sorted by name.

    Args:
        items: the images that were used.
        contents: {name: SHA-256 of what decides its pixels}.
    """
    lines = [
        json.dumps([item.name, item.split, item.label, item.group, contents[item.name]])
        for item in sorted(items, key=lambda item: item.name)
    ]
    return sha256(["\n".join(lines)])


def _tested(
    dataset: Dataset, found: Features, feature: str, head: str, seed: int, model: LinearHead
) -> Outcome:
    test = _labelled(dataset, found, feature, "test")
    predictions = Predictions(test.y, probabilities(model, test.x), dataset.ordinal)
    return Outcome(found.arm, feature, head, seed, model, predictions)


def _labelled(dataset: Dataset, found: Features, feature: str, split: Split) -> Labelled:
    """Return the vectors of one split with their classes; several features side by side."""
    x = np.concatenate([found.arrays[part] for part in feature.split("+")], axis=1)
    return labelled(dataset, found.items, x, split)
