"""Where in an image its class is: what a set's masks or boxes say, as one mask of one image.

A mask counts before boxes. Of the numbers of a mask, or the labels of boxes, those that name the image's own
class count; where none of the set's does (a mask of an implant, boxes in a set of grades), all of them do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ttr.datasets.base import IGNORE, Box, Dataset, Item, Split
from ttr.errors import DataError, ImageError
from ttr.wording import counted

#: Pixels by which a box may leave its image: tables round.
SLACK = 1.0


@dataclass(frozen=True)
class Outlines:
    """The outlines of a set. Make them with :meth:`of`.

    Attributes:
        dataset: the set.
        named: whether any of its boxes is labelled as a class of the set.
    """

    dataset: Dataset
    named: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Outlines:
        """Look once at which labels the boxes have."""
        classes = set(dataset.classes)
        return cls(dataset, any(box.label in classes for item in dataset.items for box in item.boxes))

    def items(self, split: Split) -> tuple[Item, ...]:
        """Return the items of a split that have a mask, or boxes of their class."""
        return tuple(item for item in self.dataset.select(split) if self.masked(item) or self.boxes(item))

    def required(self, split: Split) -> tuple[Item, ...]:
        """Return the items of a split that have a mask, or boxes of their class.

        Raises:
            DataError: none has, so that a map cannot be held against anything.
        """
        found = self.items(split)
        if not found:
            images = counted(len(self.dataset.select(split)), "image")
            raise DataError(
                f"{self.dataset.name} has no mask and no box of a class in its {split} split ({images}); "
                "choose a set that has them, or a csv table with a column mask or box"
            )
        return found

    def boxes(self, item: Item) -> tuple[Box, ...]:
        """Return the boxes of an item that are of its class; one without a label is."""
        return tuple(box for box in item.boxes if not self.named or box.label in ("", item.label))

    def draw(self, item: Item, size: tuple[int, int]) -> np.ndarray:
        """Return where an item's class is, uint8 [H, W]: 1 inside, 0 outside, 255 where the set is silent.

        Args:
            item: one of :meth:`items`.
            size: (width, height) of its image.

        Raises:
            ImageError: a mask that is missing, damaged or of another size, or a box that leaves the image.
        """
        if not self.masked(item):
            return _filled(self.boxes(item), item.name, size)
        assert self.dataset.masks is not None
        mask = self.dataset.masks.open(item)
        if mask.shape != size[::-1]:
            raise ImageError(
                f"the mask of {item.name} has {mask.shape[1]} × {mask.shape[0]} pixels, and its image "
                f"{size[0]} × {size[1]}; needed one size: replace the mask, or leave the image out"
            )
        names = self.dataset.masks.classes
        inside = mask == names.index(item.label) if item.label in names[1:] else mask > 0
        return np.where(mask == IGNORE, IGNORE, inside).astype(np.uint8)

    def masked(self, item: Item) -> bool:
        """Return whether an item has a mask; its boxes then do not count."""
        return self.dataset.masks is not None and self.dataset.masks.covers(item)


def _filled(boxes: tuple[Box, ...], name: str, size: tuple[int, int]) -> np.ndarray:
    """Return boxes as uint8 [H, W]: a pixel whose middle is in one is inside."""
    width, height = size
    filled = np.zeros((height, width), dtype=np.uint8)
    for box in boxes:
        sides = (box.left, box.top, box.right, box.bottom)
        if box.right > width + SLACK or box.bottom > height + SLACK:
            said = ", ".join(f"{side:g}" for side in sides)
            raise ImageError(
                f"the box {said} of {name} leaves its image of {width} × {height} pixels; needed pixels of "
                "the image as it is stored: correct the table, or leave the image out"
            )
        left, top, right, bottom = (math.ceil(side - 0.5) for side in sides)
        filled[top:bottom, left:right] = 1
    return filled
