"""Divide items where no published split does: stratified by class, whole groups at a time, from a seed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ttr.datasets.base import Item, Split
from ttr.errors import DataError

SHARE = 0.2
SEED = 42
#: What people call a split.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def divide(items: Sequence[Item], into: Split, *, share: float = SHARE, seed: int = SEED) -> list[Item]:
    """Move a stratified ``share`` of the items into the split ``into``; the order of the items stays.

    With groups, whole groups move (scikit-learn's StratifiedGroupKFold, one fold of ``round(1 / share)``);
    items without a group are groups of their own. A class with a single item (or group) stays where it is:
    it cannot be on both sides.

    Raises:
        DataError: too few items to put one of each class on either side.
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    ordered = sorted(range(len(items)), key=lambda index: items[index].name)
    groups = {index: items[index].unit for index in ordered}
    if not items:
        raise DataError(
            f"no image is left for training, of which {into} would be set aside; needed labelled training "
            "images"
        )
    sizes = Counter(label for label, _ in {(items[index].label, groups[index]) for index in ordered})
    movable = [index for index in ordered if sizes[items[index].label] > 1]
    if not movable and len(items) > 1:
        raise DataError(f"{_unmovable(items, sizes)}, so none can be set aside as {into}")
    labels = [items[index].label for index in movable]
    try:
        if any(items[index].group for index in movable):
            folds = StratifiedGroupKFold(n_splits=round(1 / share), shuffle=True, random_state=seed)
            with warnings.catch_warnings():
                # A class with fewer images than folds is said of every rare class, and is no fault here.
                warnings.simplefilter("ignore", UserWarning)
                _, chosen = next(folds.split(movable, labels, [groups[index] for index in movable]))
            moved = {movable[place] for place in chosen}
        else:
            _, taken = train_test_split(movable, test_size=share, stratify=labels, random_state=seed)
            moved = set(taken)
    except ValueError as error:
        units = len(set(groups.values()))
        held = f" in {units} groups" if units < len(items) else ""
        raise DataError(
            f"{len(items)} items of {len(sizes)} classes{held} are too few to set a stratified "
            f"{100 * share:.0f} % aside as {into}; add images, or give the split yourself"
        ) from error
    return [replace(item, split=into) if index in moved else item for index, item in enumerate(items)]


def _unmovable(items: Sequence[Item], sizes: Mapping[str, int]) -> str:
    """Say why no image can leave training: each class stands in a single group, or has a single image."""
    units = {item.unit for item in items}
    if len(units) == 1:
        return f"all {len(items):,} training images are of one group (patient)"
    what = "group (patient)" if any(item.group for item in items) else "image"
    return (
        f"each of the {len(sizes):,} classes has a single {what} in training: give more of each, or name "
        "another column the label"
    )


def complete(items: Sequence[Item], *, seed: int = SEED) -> list[Item]:
    """Give a set its missing splits: test, then validation, each a fifth of what is left of training."""
    found = {item.split for item in items}
    result = list(items)
    missing: tuple[Split, ...] = ("test", "val")
    for split in missing:
        if split not in found:
            training = [item for item in result if item.split == "train"]
            result = [item for item in result if item.split != "train"]
            result += divide(training, split, seed=seed)
    return result
