"""Images with their outlines as the model sees them, and the maps of every arm and method on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.attribution.attribute import WITHOUT_TARGET, attribute
from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, Item, OpenedImages, Outlines, ReadAhead
from ttr.evaluate.discovery import boxes_as_seen, boxes_of
from ttr.evaluate.insertion import order_of, steps
from ttr.evaluate.localisation import Truth
from ttr.evaluate.masks import outline_as_seen
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.localize.asked import Asked


@dataclass(frozen=True, eq=False)
class Seen:
    """One image as the model is given it.

    Attributes:
        item: of the set.
        pixels: the model's input, float [3, h, w].
        outline: where its class is there, uint8 [h, w], 255 where nothing is known.
        truth: the same over the patches.
        boxes: of its class in pixels of the model's input, float64 [K, 4]; of a mask those around its parts;
            none unless the looker finds them.
    """

    item: Item
    pixels: Tensor
    outline: np.ndarray
    truth: Truth
    boxes: np.ndarray


@dataclass(frozen=True, eq=False)
class Looker:
    """What makes maps of a set's images.

    Attributes:
        backbone: the bare backbone.
        dataset: the labelled set.
        arms: the treatments.
        methods: of :func:`ttr.attribution.attribute.attribute`.
        asked: whose classes the methods with a target are asked for; None where none has one.
        finds_boxes: whether the boxes of each image are found too, which takes a few passes of its size.
    """

    backbone: Backbone
    dataset: Dataset
    arms: Sequence[Arm]
    methods: Sequence[str]
    asked: Asked | None = field(repr=False)
    finds_boxes: bool = False

    def reading(self, items: Sequence[Item], run: Run) -> ReadAhead:
        """Return some items, to be opened ahead one by one as :class:`Seen`."""
        return ReadAhead(OpenedImages(items, self._opener(), named=attrgetter("name")), run)

    def batches(self, reading: ReadAhead, size: int) -> Iterator[list[Seen]]:
        """Yield what is read, ``size`` images at a time."""
        batch: list[Any] = []
        for each in reading:
            batch.append(each)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def maps(self, batch: Sequence[Seen]) -> Iterator[tuple[Arm, str, np.ndarray]]:
        """Yield each arm and method with its maps of a batch, float32 [B, rows, columns].

        A method with a target is asked for the label of each image.
        """
        images = torch.stack([each.pixels for each in batch])
        labels = [self.dataset.target(each.item) for each in batch]
        for arm in self.arms:
            with arm.applied(self.backbone):
                for method in self.methods:
                    yield arm, method, self._map(images, labels, method).cpu().numpy()

    def curves(
        self,
        batch: Sequence[Seen],
        maps: Sequence[np.ndarray],
        seeds: Sequence[list[int]],
        blanks: Sequence[str],
        size: int,
    ) -> list[np.ndarray]:
        """Return the probability of each image's label along the curves of B blanks, float64 [2 B, S] each.

        Under the wrap that is installed; ``seeds`` are of ties and noise, and ``size`` is images a pass.
        """
        assert self.asked is not None
        found = []
        for each, relevance, seed in zip(batch, maps, seeds, strict=True):
            images = steps(each.pixels, order_of(relevance, seed), each.truth.grid, blanks, seed)
            features = torch.cat([self.backbone.embed(part).float().cpu() for part in images.split(size)])
            probability = self.asked.logits(features).double().softmax(dim=1)
            label = probability[:, self.dataset.target(each.item)]
            found.append(label.detach().numpy().reshape(2 * len(blanks), -1))
        return found

    def _map(self, images: Tensor, labels: Sequence[int], method: Any) -> Tensor:
        if method in WITHOUT_TARGET:
            return attribute(self.backbone, images, method=method, batch_size=len(images))
        assert self.asked is not None
        return self.asked.maps(self.backbone, images, labels, method)

    def _opener(self) -> Any:
        outlines = Outlines.of(self.dataset)

        def opened(item: Item) -> Seen:
            image = self.dataset.open(item)
            outline = outline_as_seen(self.backbone, outlines.draw(item, image.size))
            truth = Truth.of(outline, self.backbone.layout.grid)
            if not self.finds_boxes:
                boxes = np.empty((0, 4))
            elif outlines.masked(item):
                boxes = boxes_of(outline == 1)
            else:
                boxes = boxes_as_seen(self.backbone, image.size[::-1], outlines.boxes(item))
            return Seen(item, self.backbone.preprocess(image), outline, truth, boxes)

        return opened
