"""Any set that lies in folders: a folder a class, and, if there are some, a folder a split above them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, make_dataset
from ttr.datasets.dicom.files import frame_paths
from ttr.datasets.folder import images_below, is_image, is_visible
from ttr.datasets.splits import SPLIT_NAMES, complete
from ttr.errors import DataError
from ttr.wording import counted

CARD = Card(
    title="image folder",
    source="your own images, DICOM files among them",
    licence="yours",
    classes="one a folder",
    metric="accuracy (top1), or balanced_accuracy where classes differ in size",
    problems="folders say nothing of patients: where one has several images, use the csv set "
    "with a group column",
    how_to_get="Make a folder a class, and put the images into them.",
    layout="<class>/*, or train/<class>/*, test/<class>/* and, if you have one, val/<class>/* (or the other "
    "way round: <class>/train/*, <class>/test/*)",
)
#: What the groups of images are that lie in class folders.
FRAME_GROUPS = "files of several frames"


def image_folder(root: Path, *, seed: int = 42) -> Dataset:
    """Read a folder of classes; splits that are not there are made, stratified.

    Raises:
        DataError: no class folders with images, or images whose class or split their place leaves open.
    """
    inner = _without_wrapping(root)
    folders = _folders(inner)
    splits = {path: SPLIT_NAMES[path.name.lower()] for path in folders if path.name.lower() in SPLIT_NAMES}
    if splits and len(splits) < len(folders):
        strange = next(path.name for path in folders if path not in splits)
        raise DataError(
            f"{inner} has folders of splits and the folder {strange!r} beside them; needed {CARD.layout}: "
            "move it elsewhere"
        )
    for folder in splits:
        if loose := _images_in(folder):
            raise DataError(
                f"{folder} holds {counted(loose, 'image')} in no class folder; needed {CARD.layout}: put "
                "each into the folder of its class, or move them elsewhere"
            )
    below: dict[Path, Split] = splits or {root: "train"}
    items = [item for folder, split in below.items() for item in items_below(folder, root, split)]
    if not items:
        raise DataError(f"{root} holds no images in class folders; needed {CARD.layout}")
    items = _split_by_class(root, items, [] if splits else folders)
    loose = 0 if splits else _images_in(root)
    notes = (f"{counted(loose, 'image')} beside the class folders not used",) if loose else ()
    return make_dataset("folder", complete(items, seed=seed), CARD, notes=notes, groups=FRAME_GROUPS)


def _split_by_class(root: Path, items: list[Item], folders: list[Path]) -> list[Item]:
    """Return the items in the splits that lie in the class folders, where all of the images lie so.

    Raises:
        DataError: only some do, or they lie deeper.
    """
    hidden = {item.path: _hidden_split(item) for item in items}
    first = next((item for item in items if hidden[item.path]), None)
    if first is None:
        return items
    within = {item.path: item.path.relative_to(root).parts[1:2] for item in items if item.path is not None}
    if folders and all(hidden[path] and hidden[path] == parts[0] for path, parts in within.items()):
        return [replace(item, split=SPLIT_NAMES[hidden[item.path].lower()]) for item in items]
    raise DataError(
        f"{root} has a folder {hidden[first.path]!r} in that of the class {first.label!r}, which names a "
        f"split and lies where none is read; needed {CARD.layout}: all images of all classes in the one way"
    )


def _hidden_split(item: Item) -> str:
    """Return the name of a split among the folders between an image and that of its class, or nothing."""
    assert item.path is not None
    folders = item.path.parent.parts
    place = len(folders) - 1 - folders[::-1].index(item.label)
    return next((name for name in folders[place + 1 :] if name.lower() in SPLIT_NAMES), "")


def _images_in(folder: Path) -> int:
    """Return how many images lie in a folder itself."""
    return sum(is_image(path) for path in folder.iterdir())


def items_below(folder: Path, root: Path, split: Split) -> Iterator[Item]:
    """Yield the images of each class folder in ``folder``, named by their path below ``root``."""
    for label in _folders(folder):
        for path in images_below(label):
            frames, file = frame_paths(path), path.relative_to(root).as_posix()
            # Frames of one file look alike, so that they stay on one side of a split.
            group = file if len(frames) > 1 else None
            for each in frames:
                yield Item(each.relative_to(root).as_posix(), label.name, split, each, group)


def _without_wrapping(root: Path) -> Path:
    """Return the folder of the splits, where archives put others around it that hold nothing else."""
    inner = root
    while len(folders := _folders(inner)) == 1 and folders[0].name.lower() not in SPLIT_NAMES:
        inner = folders[0]
    return inner if any(path.name.lower() in SPLIT_NAMES for path in folders) else root


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; needed {CARD.layout}")
    return sorted(path for path in root.iterdir() if is_visible(path.name) and path.is_dir())
