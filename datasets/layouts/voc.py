"""PASCAL VOC's segmentation layout: photographs with a class for every pixel, and any set laid out alike.

An image's own label, which only classification and the split of the validation set ask for, is the class that
most of its foreground pixels have. Opening the set therefore reads every mask once (PASCAL VOC 2012 has
2,913 of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ttr.datasets.base import (
    IGNORE,
    Card,
    Dataset,
    Item,
    Masks,
    Split,
    inside,
    make_dataset,
    read_text,
    require,
)
from ttr.datasets.mask_files import open_numbers
from ttr.datasets.splits import complete
from ttr.errors import DataError, ImageError

CARD = Card(
    title="PASCAL VOC segmentation",
    source="Everingham et al. (2015), The PASCAL Visual Object Classes Challenge: a retrospective; or your "
    "own set in its layout",
    licence="photographs of flickr, under its terms; not redistributable here",
    classes="background and 20 objects (21 classes of pixels); in your own set those that classes.txt names",
    metric="mIoU of the segmentation; an image's label is its most frequent foreground class",
    problems="natural photographs, nothing medical: it is here to compare with published numbers; objects' "
    "rims are marked 255 and do not count; its val list is the test split here",
    how_to_get="The challenge's page offers VOC2012 as VOCdevkit; give the folder VOC2012 as the root.",
    layout="JPEGImages/<id>.jpg (or .png), SegmentationClass/<id>.png (class numbers, 255 to ignore), "
    "ImageSets/Segmentation/train.txt and val.txt, and for your own classes classes.txt, one a line, the "
    "background first",
)
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
SUFFIXES = (".jpg", ".png", ".jpeg")
LISTS: dict[Split, str] = {"train": "train.txt", "test": "val.txt"}


def voc(root: Path, *, seed: int = 42) -> Dataset:
    """Read a set in PASCAL VOC's layout: its val list is the test split, a fifth of train is validation.

    Raises:
        DataError: files are missing, a list is empty or leads out of the set, or a mask cannot be read.
    """
    classes = _classes(root)
    items = [
        _with_label(item, classes) for split, name in LISTS.items() for item in _items(root, split, name)
    ]
    masks = Masks(classes, partial(open_numbers, classes=len(classes)))
    return make_dataset("voc", complete(items, seed=seed), CARD, masks=masks)


def _classes(root: Path) -> tuple[str, ...]:
    """Return the classes of the pixels: those of classes.txt, or PASCAL VOC's."""
    named = root / "classes.txt"
    if not named.exists():
        return CLASSES
    classes = tuple(_lines(named))
    if len(classes) < 2 or len(set(classes)) < len(classes) or len(classes) > IGNORE:
        raise DataError(f"{named} has {len(classes)} lines; needed 2 to {IGNORE} different names, one a line")
    return classes


def _items(root: Path, split: Split, name: str) -> Iterator[Item]:
    images, masks, listed = (
        require(root, wanted, CARD)
        for wanted in ("JPEGImages", "SegmentationClass", f"ImageSets/Segmentation/{name}")
    )
    found = _lines(listed)
    if not found:
        raise DataError(f"{listed} is empty; needed one image name a line")
    for stem in found:
        candidates = [inside(images, stem + suffix, name) for suffix in SUFFIXES]
        image = next((path for path in candidates if path.is_file()), candidates[0])
        mask = inside(masks, f"{stem}.png", name)
        yield Item(f"JPEGImages/{image.relative_to(images).as_posix()}", "", split, image, mask=mask)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _with_label(item: Item, classes: tuple[str, ...]) -> Item:
    try:
        mask = open_numbers(item, len(classes))
    except ImageError as error:
        raise DataError(f"voc: {error}") from error
    counts = np.bincount(mask[mask != IGNORE], minlength=len(classes))
    counts[0] = 0
    return replace(item, label=classes[int(counts.argmax())])
