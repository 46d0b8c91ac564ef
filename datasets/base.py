"""A labelled set of images as a value: its items with their splits, its classes, and how one item is read.

Classes come from the training split alone, so that nothing about the test set is known before it is used. A
label of another split that training never saw is refused by name. Reading happens when an item is used: a
missing or damaged image is that item's matter, and ``ttr data check`` lists them all beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ttr.datasets.dicom.files import image_bytes
from ttr.datasets.folder import open_image
from ttr.datasets.reading import OpenedImages, called, remarked
from ttr.digests import sha256
from ttr.errors import DataError
from ttr.files import read_bytes
from ttr.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
#: Bytes of a table or a list, at most.
MOST_TEXT = 256 << 20
#: The value of mask pixels that count neither for nor against anything.
IGNORE = 255


@dataclass(frozen=True)
class Card:
    """What one must know of a set before trusting a number on it.

    Attributes:
        title: its name in full.
        source: who made it, and where it is described.
        licence: under which terms it may be used.
        classes: what is told apart.
        metric: the number that counts on it.
        problems: known traps.
        how_to_get: where it comes from; the project never fetches it.
        layout: files as they must lie below the root.
    """

    title: str
    source: str
    licence: str
    classes: str
    metric: str
    problems: str
    how_to_get: str
    layout: str


@dataclass(frozen=True)
class Box:
    """A rectangle around a finding, in pixels of the image as it is stored, from its upper left corner."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Item:
    """One labelled image.

    Attributes:
        name: stable and unique in its set: the path below the root, with forward slashes.
        label: name of its class.
        split: ``train``, ``val`` or ``test``.
        path: its file, or None where the set draws it.
        group: what must stay together (patient, device), or None.
        mask: file of its segmentation mask, or None.
        drawn_as: the name that random draws know it by, where its own was taken from it.
        boxes: rectangles around what it shows.
    """

    name: str
    label: str
    split: Split
    path: Path | None = None
    group: str | None = None
    mask: Path | None = None
    drawn_as: str = ""
    boxes: tuple[Box, ...] = ()

    @property
    def draw_name(self) -> str:
        """What random draws of it are seeded with: the name that its set gave it. Never written."""
        return self.drawn_as or self.name

    @property
    def unit(self) -> str:
        """Its group; an item without one is a group of its own."""
        return self.group or f"/{self.name}"


def groups_of(items: Sequence[Item]) -> tuple[str, ...] | None:
    """Return the groups that statistics must keep together, one an item; None where no item has one."""
    return tuple(item.unit for item in items) if any(item.group for item in items) else None


def read_file(item: Item) -> bytes:
    """Return the bytes of an item's file.

    Raises:
        ImageError: the file cannot be read, or is larger than any image.
    """
    assert item.path is not None
    return image_bytes(item.path)


def decode_file(item: Item, content: bytes) -> Image:
    """Return the image that an item's bytes hold, RGB."""
    assert item.path is not None
    return open_image(item.path, content)


def has_mask_file(item: Item) -> bool:
    """Return whether an item names the file of its mask."""
    return item.mask is not None


@dataclass(frozen=True)
class Masks:
    """What a set says of the pixels of its images.

    Attributes:
        classes: C names, the background first.
        open: item -> int64 [H, W] at the size of its image, 0..C-1, or :data:`IGNORE` for what does not
            count.
        covers: item -> whether it has a mask at all; ``open`` is for those alone.
    """

    classes: tuple[str, ...]
    open: Callable[[Item], np.ndarray] = field(repr=False)
    covers: Callable[[Item], bool] = field(default=has_mask_file, repr=False)


@dataclass(frozen=True)
class Dataset:
    """A labelled set. Make one with :func:`ttr.datasets.registry.open_dataset`.

    Attributes:
        name: of the set.
        classes: names of the classes, in order of their indices; from the training split alone.
        items: all of them, sorted by split (train, val, test) and name.
        card: what must be known of it.
        read: item -> the bytes that decide its pixels (its file).
        decode: item, those bytes -> RGB image.
        ordinal: whether the classes are grades, in their order.
        masks: what it says of pixels, or None.
        notes: what its reading left out or took for granted, a sentence each.
        groups: what the groups of its items are, in the plural; only patients rule out that one of them is
            in training and test.
    """

    name: str
    classes: tuple[str, ...]
    items: tuple[Item, ...] = field(repr=False)
    card: Card = field(repr=False)
    read: Callable[[Item], bytes] = field(default=read_file, repr=False)
    decode: Callable[[Item, bytes], Image] = field(default=decode_file, repr=False)
    ordinal: bool = False
    masks: Masks | None = field(default=None, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    groups: str = "patients"

    def select(self, split: Split) -> tuple[Item, ...]:
        """Return the items of one split."""
        return tuple(item for item in self.items if item.split == split)

    def masked(self, split: Split) -> tuple[Item, ...]:
        """Return the items of one split that have a mask.

        Raises:
            DataError: the set has no masks.
        """
        if self.masks is None:
            raise DataError(
                f"dataset {self.name} has no masks; choose one with masks, or leave segmentation out"
            )
        return tuple(item for item in self.select(split) if self.masks.covers(item))

    def target(self, item: Item) -> int:
        """Return the index of an item's class."""
        return self.classes.index(item.label)

    def targets(self, items: Iterable[Item]) -> np.ndarray:
        """Return the indices of the classes of some items, int64 [N]."""
        import numpy as np

        return np.array([self.target(item) for item in items], dtype=np.int64)

    def open(self, item: Item) -> Image:
        """Read one item as an RGB image.

        Raises:
            ImageError: its file is missing or damaged.
        """
        with called(item.name, item.path):
            return remarked(item.name, self.decode(item, self.read(item)))

    def opened(self, items: Sequence[Item], words: str | None = None) -> OpenedImages:
        """Return some of the items as images that are opened one at a time; ``words`` say what they are."""
        return OpenedImages(items, self.open, self.content_hash, attrgetter("name"), words)

    def content_hash(self, item: Item) -> str:
        """Return the SHA-256 of the bytes that decide an item's pixels, in hexadecimal."""
        with called(item.name, item.path):
            return sha256([self.read(item)])

    def anonymous(self) -> Dataset:
        """Return the set with its images called ``image 1``, ``image 2``, ..., its groups ``group 1``, ...

        In the set's order. Every number that is measured on it stays what it was; names of classes stay, too.
        """
        numbers: dict[str, str] = {}
        if groups_of(self.items):
            units = sorted({item.unit for item in self.items})
            # Resampling goes through the groups in the order of their names, so numbers sort as these did.
            numbers = {unit: f"group {n:0{len(str(len(units)))}}" for n, unit in enumerate(units, start=1)}
        items = (
            replace(item, name=f"image {n}", group=numbers.get(item.unit), drawn_as=item.draw_name)
            for n, item in enumerate(self.items, start=1)
        )
        return replace(self, items=tuple(items))


def make_dataset(name: str, items: Iterable[Item], card: Card, **options: Any) -> Dataset:
    """Sort the items, take the classes from the training split, and check the others against them.

    ``options`` are further fields of :class:`Dataset`.

    Raises:
        DataError: no training items, a name that stands twice, or a label that training never saw.
    """
    ordered = tuple(sorted(items, key=lambda item: (SPLITS.index(item.split), item.name)))
    seen: set[str] = set()
    for item in ordered:
        if item.name in seen:
            raise DataError(f"{name}: {item.name} is listed twice; list each image once")
        seen.add(item.name)
    check_twins(name, [item.label for item in ordered])
    classes = in_order({item.label for item in ordered if item.split == "train"})
    if not classes:
        raise DataError(f"{name}: the training split is empty; needed labelled training images")
    known = set(classes)
    strange = [item for item in ordered if item.label not in known]
    if strange:
        first = strange[0]
        raise DataError(
            f"{name}: label {first.label!r} of {first.name} is in the {first.split} split and never in "
            f"training ({len({item.label for item in strange})} such labels, "
            f"{counted(len(strange), 'image')}); correct the labels, or leave those images out"
        )
    return Dataset(name, classes, ordered, card, **options)


def check_twins(name: str, labels: Sequence[str]) -> None:
    """Raise DataError for labels that differ in upper and lower case, or in spaces around them, alone."""
    spellings: dict[str, str] = {}
    for label in sorted(set(labels)):
        twin = spellings.setdefault(label.strip().casefold(), label)
        if twin != label:
            counts = [f"{each!r} ({counted(labels.count(each), 'image')})" for each in (twin, label)]
            raise DataError(
                f"{name}: the labels {' and '.join(counts)} differ in upper and lower case alone; write them "
                "alike, or as two names"
            )


def require_classes(dataset: Dataset) -> None:
    """Raise DataError unless a set has two classes to tell apart; say what was probably meant."""
    if len(dataset.classes) > 1:
        return
    label = dataset.classes[0]
    inner = [folders[folders.index(label) :] for folders in _folders(dataset.items) if label in folders]
    # What all of them lie in tells nothing apart, however many folders that are.
    levels = zip(*inner, strict=False)
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
    below = {folders[len(common)] for folders in inner if len(folders) > len(common)}
    meant = "another column is the label, or images are missing"
    if len(below) > 1:
        many = "one folder" if len(common) == 1 else f"{len(common)} folders"
        inside_it = ", ".join(sorted(below)[:4])
        meant = f"{'/'.join(common)} is {many} too many, and the classes are {inside_it} in it"
    elif not below and dataset.name == "folder":
        meant = f"the folder above {label} holds the classes, or images are missing"
    elif dataset.masks is not None:
        meant = (
            "its pixels are what is told apart: ttr ablate --tasks segmentation, or ttr localize with "
            "methods that ask for no class: --methods attention,rollout"
        )
    raise DataError(
        f"{dataset.name} has the single class {label!r}, and nothing to tell it from; needed two or more: "
        f"perhaps {meant}"
    )


def _folders(items: Iterable[Item]) -> list[tuple[str, ...]]:
    """Return the folders of each image that has a file."""
    return [item.path.parent.parts for item in items if item.path is not None]


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort labels: numbers by value where all are numbers, else as words."""
    found = sorted(labels)
    return tuple(sorted(found, key=float)) if all(label.isdigit() for label in found) else tuple(found)


def require(root: Path, relative: str | Sequence[str], card: Card) -> Path:
    """Return ``root / relative`` (the first that exists), or say what is missing and where it comes from.

    Raises:
        DataError: none of them is there.
    """
    wanted = [relative] if isinstance(relative, str) else list(relative)
    for candidate in wanted:
        if (root / candidate).exists():
            return root / candidate
    raise DataError(
        f"{card.title}: {' or '.join(wanted)} is missing in {root}; needed {card.layout}. {card.how_to_get}"
    )


def inside(root: Path, relative: str, where: str) -> Path:
    """Return the file that a table names, below ``root``.

    Raises:
        DataError: the name is empty, absolute, or leads out of ``root`` (through a link, too).
    """
    path = root / relative
    if not relative.strip() or Path(relative).is_absolute() or not relative.isprintable() or "\\" in relative:
        raise DataError(f"{where}: path {relative!r} is not allowed; needed a path below {root}, with /")
    try:
        path.is_file()  # which says so where no file can be called that
        leads_out = not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # of Python before 3.13, for links that go in a circle
        why = getattr(error, "strerror", None) or "links in a circle"
        raise DataError(f"{where}: path {relative!r} is none ({why}); needed a path below {root}") from error
    if leads_out:
        raise DataError(f"{where}: path {relative!r} leads out of {root}; keep the images below it")
    return path


def read_text(path: Path) -> str:
    """Return the text of a set's table or list; a pipe or a device is not waited for.

    Raises:
        DataError: it is no file of UTF-8, or larger than any table.
    """
    try:
        return read_bytes(path, MOST_TEXT).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error if type(error) is ValueError else getattr(error, "strerror", None) or "no UTF-8"
        raise DataError(f"{path} is no text that can be read ({why}); needed a text file") from error
