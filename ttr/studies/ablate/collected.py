"""Images x conditions -> arrays, one row an image, through the cache.

Three collections make a suite: training images, test images, and the sample of these that analyses look at.
Each condition has a shelf of its own, so that a condition that is added later computes itself alone, and the
conditions that are missing of a chunk share its full pass.

Images are drawn in the order of :mod:`ttr.studies.ablate.donors`, so that a chunk of 64, which is what the
cache keeps and what donors are drawn in, is a random sample of the set; rows go back to their items in the
end. Memory holds a few chunks and one batch, as everywhere. An image more or less shifts the chunks after its
place in that order, which are computed again. The same seed and batch size give the same numbers; another
batch size draws others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import Tensor

from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import Dataset, Item, draw_sample
from ttr.digests import sha256, sha256_of
from ttr.errors import ImageError
from ttr.features.chunks import Chunk, Source
from ttr.features.collect import collect
from ttr.features.shelf import Part, Shelf, cache_key
from ttr.forward.preprocessing import Preprocessing
from ttr.run import Run
from ttr.studies.ablate.annotated_pairs import AnnotatedPairs
from ttr.studies.ablate.attention_measures import Arrays
from ttr.studies.ablate.conditions import FULL, Condition
from ttr.studies.ablate.donors import batches, case_of, drawn_order
from ttr.studies.ablate.measures import Measures
from ttr.studies.ablate.settings import PATCHES, PATCHES_AN_IMAGE, AblationSettings

SCHEMA = "ttr.ablation/2"
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
        bank: the images that the calibration's bank holds, where they are known.
    """

    dataset: Dataset
    conditions: tuple[Condition, ...]
    settings: AblationSettings
    run: Run
    bank: tuple[Item, ...] = ()

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
            # Which of them: analyses of before the readings of rank and divergence are made anew.
            "statistics": 2,
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

        def content_hash(pair: KeypointPair) -> str:
            return sha256([annotated.content_hash(pair), pair.category, pair.source.name, pair.target.name])

        source = Source(content_hash, annotated.read)
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
        rule = self.settings.donors
        base |= {"seed": run.seed, "batch_size": run.batch_size, "donors": rule, **decided}
        shuffled = any(condition.substitute == "shuffle" for condition in conditions)
        order = drawn_order(items, run.seed, rule, strict=shuffled)

        def compute(chunk: Chunk, missing: list[int]) -> list[Part]:
            wanted = [conditions[index] for index in missing]
            parts = batches([case_of(item) for item in chunk.readable], run.batch_size, rule)
            return _compute(chunk, wanted, measure, parts)

        parts = collect(
            [items[place] for place in order],
            source
            or Source(
                partial(self._content_hash, masked="segmentation" in measures.tasks),
                lambda item: steps(self.dataset.open(item)),
            ),
            [Shelf.of(run.shelves, {**base, **self._condition_key(each, measures)}) for each in conditions],
            compute,
            backbone,
            run,
            label=label,
        )
        rows = {name: row for row, name in enumerate(parts[0].names)}
        if not rows:
            raise ImageError("not one image could be read; see: ttr data check")
        kept = tuple(item for item in items if item.name in rows)
        back = [rows[item.name] for item in kept]
        return Collected(
            items=kept,
            arrays={
                each.name: {name: array[back] for name, array in part.arrays.items()}
                for each, part in zip(conditions, parts, strict=True)
            },
            skipped=parts[0].skipped,
        )

    def _content_hash(self, item: Item, *, masked: bool) -> str:
        """Return the hash of an image, its mask if it counts, and all that its draws depend on."""
        masks = self.dataset.masks
        # Of the mask its pixels: many layouts have no file of it, but tables, boxes or one file a class.
        pixels = [masks.open(item)] if masked and masks is not None and masks.covers(item) else []
        mask = [sha256_of([len(masks.classes)], pixels)] if pixels and masks is not None else []
        return sha256([self.dataset.content_hash(item), *mask, *self._kin(item)])

    def _kin(self, item: Item) -> list[str]:
        """Return an item's name, class and group as draws know them, whatever results call them."""
        return [item.draw_name, item.label, self._first_of_group[item.unit]]

    @cached_property
    def _first_of_group(self) -> dict[str, str]:
        """{group: the image by which draws know it}; groups are renamed where nobody may be named."""
        return {item.unit: item.draw_name for item in reversed(self.dataset.items)}

    def _condition_key(self, condition: Condition, measures: Measures) -> dict[str, Any]:
        calibration = measures.subject.calibration
        known = calibration.digest if condition.calibrated and calibration is not None else None
        bank = [self._kin(item) for item in self.bank] if condition.substitute == "resample" else []
        return {"condition": condition.name, "calibration": known, "bank": sha256_of(bank)}


def _compute(
    chunk: Chunk, conditions: Sequence[Condition], measure: Measure, parts: Sequence[slice]
) -> list[Part]:
    # The full condition is what the others are measured against; it comes first, wanted or not.
    asked = conditions if conditions[0] == FULL else [FULL, *conditions]
    found: list[list[Arrays]] = [[] for _ in asked]
    for part in parts:
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


def _heads_digest(measures: Measures) -> str:
    heads = dict(sorted(measures.heads.items()))
    tensors = (tensor for head in heads.values() for tensor in (head.weight, head.bias))
    return sha256_of(list(heads), (tensor.numpy() for tensor in tensors), 24)
