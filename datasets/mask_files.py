"""Segmentation masks in files: class numbers as the pixels say them, or one thing against its background."""

from __future__ import annotations

import numpy as np

from ttr.datasets.base import IGNORE, Item
from ttr.datasets.folder import open_image
from ttr.datasets.opening import opened
from ttr.datasets.reading import called
from ttr.errors import ImageError

#: Modes whose pixels are numbers: palette (the number is the colour's place in it), grey, black and white.
NUMBERED = ("P", "L", "1", "I", "I;16")
#: So many different grey values, or values up to it, may be numbers of classes.
FEW = 20


def open_numbers(item: Item, classes: int) -> np.ndarray:
    """Return an item's mask as class numbers, int64 [H, W], 0..classes-1 or IGNORE.

    Raises:
        ImageError: the file is missing or damaged, has colours instead of numbers, or a number is no class.
    """
    path, said = item.mask, f"the mask of {item.name}"
    if path is None or not path.is_file():
        raise ImageError(f"{said} does not exist; add it, or leave the image out")
    with called(said, path), opened(path) as mask:
        mode, numbers = mask.mode, np.asarray(mask).astype(np.int64)
    if mode not in NUMBERED:
        raise ImageError(
            f"{said} has colours ({mode}); needed one number a pixel, as a palette or a grey PNG"
        )
    strange = numbers[(numbers >= classes) & (numbers != IGNORE)]
    if strange.size:
        raise ImageError(f"{said} holds the number {strange[0]}; needed 0..{classes - 1} or {IGNORE}")
    return numbers


def open_foreground(item: Item) -> np.ndarray:
    """Return an item's mask as 1 where it is brighter than half of its brightest pixel, else 0, int64 [H, W].

    Masks of 0 and 1, of 0 and 255, and such with the blur of JPEG are all read alike.

    Raises:
        ImageError: the file is missing or damaged, or holds the numbers of several classes.
    """
    if item.mask is None:
        raise ImageError(f"{item.name} has no mask; leave it out of segmentation")
    with called(f"the mask of {item.name}", item.mask):
        grey = np.asarray(open_image(item.mask).convert("L")).astype(np.int64)
    _check_one_thing(grey, f"the mask of {item.name}")
    return (2 * grey > grey.max()).astype(np.int64)


def _check_one_thing(grey: np.ndarray, said: str) -> None:
    """Raise ImageError for a mask whose few grey values number classes; blur makes many, or near the ends."""
    values, counts = np.unique(grey, return_counts=True)
    between = (4 * values > values[-1]) & (4 * values < 3 * values[-1]) & (counts > grey.size // 100)
    if len(values) > 2 and (values[-1] <= FEW or (len(values) <= FEW and between.any())):
        listed = ", ".join(map(str, values[:8]))
        raise ImageError(
            f"{said} holds the numbers {listed}, several things; needed black and white: make a mask of one "
            "of them, or use the layout of the voc set"
        )
