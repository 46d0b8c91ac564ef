"""Phantom lesions: a small spot on a disc, and the spot alone is the class.

Where a map of a class must look is known here to the pixel: nothing else in an image tells the classes apart.
The spot lies anywhere on the disc, so that a map of the middle finds it no more often than chance has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ttr.datasets.base import Dataset, Item, Masks, Split, make_dataset
from ttr.datasets.phantom import SIZE
from ttr.datasets.phantom_set import CARD as DRAWN
from ttr.datasets.phantom_set import drawn_items, recipe

if TYPE_CHECKING:
    from PIL.Image import Image

CARD = replace(
    DRAWN,
    title="phantom lesions",
    source="drawn by ttr from a seed: one spot on a grainy disc with a dark border",
    classes="a bright and a dark spot",
    metric="relevance_mass of ttr localize; accuracy (top1)",
)
CLASSES = ("bright", "dark")
COUNTS: dict[Split, int] = {"train": 120, "val": 24, "test": 60}
#: Each split has a seed of its own, so that no image of one is in another.
SEEDS: dict[Split, int] = {"train": 4, "val": 5, "test": 6}
#: Radius of the disc, and of a spot from the smallest to the largest, in sides of the image.
DISC, SPOT = 0.45, (0.04, 0.12)


def phantom_lesions(*, counts: dict[Split, int] = COUNTS, seed: int = 0) -> Dataset:
    """Return the set; ``counts`` images a split, the two classes in turn. ``seed`` gives another set."""
    items = drawn_items("lesion", CLASSES, counts, SEEDS, seed)
    masks = Masks(("background", *CLASSES), _mask, covers=lambda item: True)
    return make_dataset("phantom-lesions", items, CARD, read=recipe, decode=_decode, masks=masks)


def _decode(item: Item, content: bytes) -> Image:
    from PIL import Image

    pixels, _ = _draw(item)
    return Image.fromarray(pixels)


def _mask(item: Item) -> np.ndarray:
    """Return the spot as its class on a background of 0, int64 [224, 224]."""
    return np.where(_draw(item)[1], 1 + CLASSES.index(item.label), 0)


def _draw(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """Return the image, uint8 [224, 224, 3], and the spot, bool [224, 224]."""
    _, seed, index = item.draw_name.split("-")
    random = np.random.default_rng([int(seed), int(index)])
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    radius = random.uniform(*SPOT)
    # Evenly over the area in which a whole spot fits on the disc.
    away, turn = (DISC - radius) * random.uniform() ** 0.5, random.uniform(0, 2 * np.pi)
    spot = np.hypot(x - away * np.cos(turn), y - away * np.sin(turn)) <= radius
    shade = np.where(spot, {"bright": 0.9, "dark": 0.1}[item.label], 0.5)
    grain = random.normal(0, 0.03, (SIZE, SIZE))
    grey = np.where(np.hypot(x, y) <= DISC, shade + grain, 0.02 + 0.3 * np.abs(grain))
    tint = np.array([1.0, 0.9, 0.8])
    return (255 * (grey[..., None] * tint).clip(0, 1)).round().astype(np.uint8), spot
