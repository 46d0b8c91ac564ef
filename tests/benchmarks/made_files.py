"""A labelled set of JPEG files that compress like photographs, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ttr.datasets.base import Dataset, Item, make_dataset
from ttr.datasets.phantom_set import CARD

SPLITS = ("train", "train", "val", "test")
SIDE = 512


def made_set(folder: Path, count: int) -> Dataset:
    """Write smooth noise of 512 px as JPEG of quality 90, two classes; files that are there already stay."""
    items = []
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            coarse = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(Item(path.name, "ab"[number % 2], SPLITS[number // 2 % 4], path))  # type: ignore[arg-type]
    return make_dataset("made", items, CARD)
