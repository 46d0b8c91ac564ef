"""Any set that lies in folders: a folder a class, and, if there are some, a folder a split above them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, make_dataset
from ttr.datasets.dicom_files import frame_paths
from ttr.datasets.folder import is_image
from ttr.datasets.splits import complete
from ttr.errors import DataError

CARD = Card(
    title="image folder",
    source="your own images, DICOM files among them",
    licence="yours",
    classes="one a folder",
    metric="accuracy (top1), or balanced_accuracy where classes differ in size",
    problems="folders say nothing of patients: where one has several images, use the csv set "
    "with a group column",
    how_to_get="Make a folder a class, and put the images into them.",
    layout="<class>/*, or train/<class>/*, test/<class>/* and, if you have one, val/<class>/*",
)
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def image_folder(root: Path, *, seed: int = 42) -> Dataset:
    """Read a folder of classes; splits that are not there are made, stratified.

    Raises:
        DataError: no class folders with images.
    """
    folders = _folders(root)
    splits = {path: SPLIT_NAMES[path.name.lower()] for path in folders if path.name.lower() in SPLIT_NAMES}
    if splits and len(splits) < len(folders):
        strange = next(path.name for path in folders if path not in splits)
        raise DataError(
            f"{root} has folders of splits and the folder {strange!r} beside them; needed {CARD.layout}"
        )
    below: dict[Path, Split] = splits or {root: "train"}
    items = [item for folder, split in below.items() for item in items_below(folder, root, split)]
    if not items:
        raise DataError(f"{root} holds no images in class folders; needed {CARD.layout}")
    return make_dataset("folder", complete(items, seed=seed), CARD)


def items_below(folder: Path, root: Path, split: Split) -> Iterator[Item]:
    """Yield the images of each class folder in ``folder``, named by their path below ``root``."""
    for label in _folders(folder):
        for path in sorted(label.rglob("*")):
            if is_image(path):
                frames, file = frame_paths(path), path.relative_to(root).as_posix()
                # Frames of one file look alike, so that they stay on one side of a split.
                group = file if len(frames) > 1 else None
                for each in frames:
                    yield Item(each.relative_to(root).as_posix(), label.name, split, each, group)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; needed {CARD.layout}")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
