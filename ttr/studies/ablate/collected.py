"""Images x conditions -> arrays, one row an image, through the cache.

Three collections make a suite: training images, test images, and the sample of these that analyses look at.
Each condition has a shelf of its own, so that a condition that is added later computes itself alone, and the
conditions that are missing of a chunk share its full pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import Dataset, Item, draw_sample
from ttr.digests import sha256, sha256_of
from ttr.errors import ImageError
from ttr.features.chunks import Chunk, Source, collect
from ttr.features.shelf import Part, Shelf, cache_key
from ttr.forward.preprocessing import Preprocessing
from ttr.run import Run
from ttr.studies.ablate.annotated_pairs import AnnotatedPairs
from ttr.studies.ablate.attention_measures import Arrays
from ttr.studies.ablate.conditions import FULL, Condition
from ttr.studies.ablate.measures import Measures
from ttr.studies.ablate.settings import PATCHES, PATCHES_AN_IMAGE, AblationSettings

SCHEMA = "ttr.ablation/1"
#: (items, images [B, 3, H, W], conditions) -> arrays of each condition.
Measure = Callable[[Sequence[Item], Tensor, Sequence[Condition]], Iterator[Arrays]]


@dataclass(frozen=True, eq=False)
class Collected:
    """Arrays of some images under some conditions.

    Attributes:
        items: the readable images (or pairs of them).
        arrays: {condition: {name: array with one row an item}}.
        skipped: {name: reason} of the unreadable ones.
    """

    items: tuple[Any, ...] = field(repr=False)
    arrays: dict[str, Arrays] = field(repr=False)
    skipped: dict[str, str]


@dataclass(frozen=True, eq=False)
class Collector:
    """Collects the arrays of one experiment.

    Attributes:
        dataset: the labelled set.
        conditions: ``full`` first.
        settings: of the experiment.
        run: how it runs; its cache is where the arrays lie.
    """

    dataset: Dataset
    conditions: tuple[Condition, ...]
    settings: AblationSettings
    run: Run

    def training(self, measures: Measures) -> Collected:
        """Collect the training and validation images; where there is a probe of its own, all conditions."""
        items = (*self.dataset.select("train"), *self.dataset.select("val"))
        conditions = self.conditions if "probe" in self.settings.tasks else self.conditions[:1]
        if "segmentation" in self.settings.tasks:
            share = PATCHES // max(1, len(self.dataset.masked("train")))
            measures = replace(measures, patches=min(max(share, 1), PATCHES_AN_IMAGE))
        decided = {"blocks": measures.blocks, "patches": measures.patches}
        return self.collect("training", measures, items, conditions, measures.training, decided)

    def test(self, measures: Measures, items: Sequence[Item]) -> Collected:
        """Collect the tasks of the test images under every condition."""
        measures = replace(measures, blocks=measures.blocks if "segmentation" in measures.tasks else ())
        decided = {"tasks": sorted(measures.tasks), "heads": _heads_digest(measures)}
        return self.collect("conditions", measures, items, self.conditions, measures.test, decided)

    def analyses(self, measures: Measures) -> Collected | None:
        """Collect attention, geometry and layers of a sample of the test images under every condition."""
        if not self.settings.analysis_images:
            return None
        measures = replace(measures, statistics=True)
        items = draw_sample(self.dataset.select("test"), self.settings.analysis_images, self.run.seed)
        decided = {
            "tasks": sorted(measures.tasks),
            "heads": _heads_digest(measures),
            "statistics": True,
            "blocks": measures.blocks,
        }
        return self.collect("analyses", measures, items, self.conditions, measures.test, decided)

    def pairs(self, measures: Measures, pairs: Sequence[KeypointPair]) -> Collected:
        """Collect correspondence on annotated pairs of images under every condition."""
        measures = replace(measures, tasks=frozenset({"correspondence"}), blocks=(), heads={})
        annotated = AnnotatedPairs(measures.subject.backbone)

        def measure(
            items: Sequence[Any], images: Tensor, conditions: Sequence[Condition]
        ) -> Iterator[Arrays]:
            return measures.test(items, images[:, 0], conditions, annotated.batch(items, images))

        source = Source(annotated.content_hash, annotated.read)
        return self.collect("pairs", measures, pairs, self.conditions, measure, {}, source)

    def collect(
        self,
        label: str,
        measures: Measures,
        items: Sequence[Any],
        conditions: Sequence[Condition],
        measure: Measure,
        decided: dict[str, Any],
        source: Source | None = None,
    ) -> Collected:
        """Collect what ``measure`` says of some images under some conditions; ``decided`` is part of the key.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``, or not a single readable one.
        """
        backbone, run = measures.subject.backbone, self.run
        steps = Preprocessing(backbone)
        base = cache_key(backbone, measures.subject.arm, steps) | {"ablation": SCHEMA, "measured": label}
        base |= {"seed": run.seed, "batch_size": run.batch_size, **decided}

        def compute(chunk: Chunk, missing: list[int]) -> list[Part]:
            return _compute(chunk, [conditions[index] for index in missing], measure, run.batch_size)

        parts = collect(
            items,
            source or Source(self._content_hash, lambda item: steps(self.dataset.open(item))),
            [Shelf.of(run.shelves, {**base, **_condition_key(each, measures)}) for each in conditions],
            compute,
            run,
            label=label,
        )
        readable = set(parts[0].names)
        if not readable:
            raise ImageError("not one image could be read; see: ttr data check")
        return Collected(
            items=tuple(item for item in items if item.name in readable),
            arrays={each.name: part.arrays for each, part in zip(conditions, parts, strict=True)},
            skipped=parts[0].skipped,
        )

    def _content_hash(self, item: Item) -> str:
        """Return the hash of an image and of what its draws are seeded with: another one is drawn anew."""
        return sha256([self.dataset.content_hash(item), item.draw_name])


def _compute(chunk: Chunk, conditions: Sequence[Condition], measure: Measure, batch_size: int) -> list[Part]:
    # The full condition is what the others are measured against; it comes first, wanted or not.
    asked = conditions if conditions[0] == FULL else [FULL, *conditions]
    found: list[list[Arrays]] = [[] for _ in asked]
    for part in _batches(len(chunk.readable), batch_size):
        measured = measure(chunk.readable[part], chunk.images[part], asked)
        for kept, arrays in zip(found, measured, strict=True):
            kept.append(arrays)
    wanted = found[len(asked) - len(conditions) :]
    return [
        chunk.part(
            {name: np.concatenate([each[name] for each in kept]) for name in (kept[0] if kept else ())}
        )
        for kept in wanted
    ]


def _batches(count: int, batch_size: int) -> Iterator[slice]:
    """Yield the parts of ``count`` images; one that would be left alone joins the last batch."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], count], strict=True):
        yield slice(start, stop)


def _condition_key(condition: Condition, measures: Measures) -> dict[str, Any]:
    calibration = measures.subject.calibration
    known = calibration.digest if condition.calibrated and calibration is not None else None
    return {"condition": condition.name, "calibration": known}


def _heads_digest(measures: Measures) -> str:
    heads = dict(sorted(measures.heads.items()))
    tensors = (tensor for head in heads.values() for tensor in (head.weight, head.bias))
    return sha256_of(list(heads), (tensor.numpy() for tensor in tensors), 24)
