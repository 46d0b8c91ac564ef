"""The labelled phantom images as a set: nothing to fetch, every truth known, that of each pixel too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ttr.datasets.base import Card, Dataset, Item, Masks, Split, make_dataset
from ttr.datasets.phantom import CLASSES, PhantomImage, phantom_image

if TYPE_CHECKING:
    from PIL.Image import Image

CARD = Card(
    title="phantom images",
    source="drawn by ttr from a seed: textures on a disc with a dark border",
    licence="Apache-2.0, as ttr",
    classes="six textures",
    metric="accuracy (top1)",
    problems="it proves the instrument, not the biology; read nothing medical into a number on it",
    how_to_get="Nothing to fetch.",
    layout="no root",
)
COUNTS: dict[Split, int] = {"train": 240, "val": 60, "test": 240}
#: Each split has a seed of its own, so that no image of one is in another.
SEEDS: dict[Split, int] = {"train": 1, "val": 2, "test": 3}


def phantom_set(*, counts: dict[Split, int] = COUNTS, seed: int = 0) -> Dataset:
    """Return the set; ``counts`` images a split, the six classes in turn. ``seed`` gives another set."""
    items = drawn_items("phantom", CLASSES, counts, SEEDS, seed)
    masks = Masks(("background", *CLASSES), _mask, covers=_covers)
    return make_dataset("phantom", items, CARD, read=recipe, decode=_decode, masks=masks)


def drawn_items(
    name: str, classes: Sequence[str], counts: Mapping[Split, int], seeds: Mapping[Split, int], seed: int
) -> list[Item]:
    """Return items whose images are drawn as they are opened, named by seed and index; classes take turns."""
    return [
        Item(f"{name}-{1000 * seed + seeds[split]}-{index:04d}", classes[index % len(classes)], split)
        for split, count in counts.items()
        for index in range(count)
    ]


def recipe(item: Item) -> bytes:
    """Return what stands for the file of an image that is drawn: the name that it follows from."""
    return item.draw_name.encode()


def _decode(item: Item, content: bytes) -> Image:
    return _draw(item).image


def _covers(item: Item) -> bool:
    return True


def _mask(item: Item) -> np.ndarray:
    """Return the disc as its texture's class on a background of 0, int64 [224, 224]."""
    drawn = _draw(item)
    return np.where(drawn.mask, 1 + CLASSES.index(drawn.label), 0)


def _draw(item: Item) -> PhantomImage:
    _, seed, index = item.draw_name.split("-")
    return phantom_image(int(index), seed=int(seed), classes=len(CLASSES))
