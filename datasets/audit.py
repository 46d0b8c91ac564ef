"""Look at every file of a labelled set before a number is computed on it.

A set misleads a benchmark when its score can be earned without generalising, or cannot be computed as stated:

- an image is missing or damaged;
- a picture of the test split is in training or validation too, as the same file or as a near duplicate;
- duplicates carry different labels, wherever they stand: at least one is wrong;
- a group (a patient, a device) stands in more than one split.

Everything else is a warning: duplicates that agree within a split or between training and validation (they
weigh double, or flatter the choice of a model, not the test), pictures that look alike, splits and masks that
are missing, classes too small to learn or to measure.

Images are read one at a time (one a process); of each, its SHA-256 and a thumbnail of 4 KiB are kept.
:mod:`ttr.datasets.likeness` says when two of them are near duplicates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ttr.datasets.base import SPLITS, Dataset, Item, Split, groups_of
from ttr.datasets.likeness import ALIKE, DISTANCE, SAME, near_pairs, thumbnail
from ttr.errors import ImageError
from ttr.progress import progress_bar
from ttr.version import __version__
from ttr.wording import counted

SCHEMA = "ttr.audit/1"
FEWEST = 2
#: Starting more processes takes as long as one needs for about so many small images.
WORTH_PROCESSES = 1000

#: Every kind of finding, in the order of the report: whether it misleads a benchmark, and what it is.
KINDS: dict[str, tuple[bool, str]] = {
    "unreadable": (True, "images that are missing or damaged"),
    "test-duplicate": (True, "exact duplicates between the test split and another"),
    "test-near-duplicate": (True, "near duplicates between the test split and another"),
    "conflicting-labels": (True, "duplicates with different labels"),
    "shared-group": (True, "groups in more than one split"),
    "duplicate": (False, "exact duplicates elsewhere, labels agree"),
    "near-duplicate": (False, "near duplicates elsewhere, labels agree"),
    "look-alike": (False, "pairs that look alike: cropped copies, or different images"),
    "missing-split": (False, "splits that are missing"),
    "rare-class": (False, f"classes with fewer than {FEWEST} training or test images"),
    "mask": (False, "masks that are missing, damaged or of another size than their image"),
}


@dataclass(frozen=True)
class Entry:
    """One case of a finding.

    Attributes:
        items: the images concerned; empty where it is about a split or a class.
        detail: what is the matter, where the kind of the finding does not say it.
        distance: bits by which the perceptual hashes differ, of near duplicates and look-alikes.
        correlation: of their detail, up to 1.
    """

    items: tuple[Item, ...] = ()
    detail: str = ""
    distance: int | None = None
    correlation: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        images = [{"name": i.name, "split": i.split, "label": i.label, "group": i.group} for i in self.items]
        numbers = {"distance": self.distance, "correlation": self.correlation}
        return {"images": images, "detail": self.detail} | {k: v for k, v in numbers.items() if v is not None}


@dataclass(frozen=True)
class Audit:
    """What was found in a labelled set. Make one with :func:`audit`.

    Attributes:
        dataset: name of the set.
        counts: images by split and class, {split: {class: images}}.
        findings: {kind: its cases}, the kinds of ``KINDS`` in their order, those without a case left out.
        notes: what the set's reading left out or took for granted.
        without_group: images that name no patient.
        groups: what its groups are, where they are no patients.
    """

    dataset: str
    counts: dict[Split, dict[str, int]]
    findings: dict[str, tuple[Entry, ...]] = field(repr=False)
    notes: tuple[str, ...] = ()
    without_group: int = 0
    groups: str = ""

    @property
    def causes(self) -> tuple[str, ...]:
        """The kinds that were found and mislead a benchmark; empty for a set that does not."""
        return tuple(kind for kind in self.findings if KINDS[kind][0])

    @property
    def unchecked(self) -> str:
        """What "nothing found" does not cover, as the end of a sentence; empty where it covers all."""
        if not self.without_group:
            return ""
        some = self.without_group < sum(sum(classes.values()) for classes in self.counts.values())
        whose = f"{counted(self.without_group, 'image')} without one" if some else "the set names none"
        whose += f", its groups are {self.groups}" if self.groups else ""
        return f"; leakage between patients was not checked ({whose})"

    @property
    def imbalance(self) -> float:
        """Training images of the largest class for one of the smallest."""
        sizes = self.counts["train"].values()
        return max(sizes) / min(sizes)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values.

        ``schema``, ``ttr``, ``dataset``, ``images`` (how many), ``counts`` {split: {class: images}},
        ``imbalance`` (largest over smallest training class), ``misleads`` (true or false), ``causes`` (kinds
        that mislead), ``findings`` {kind: {misleads, what, cases: [{images: [{name, split, label, group}],
        detail, and of near pairs distance and correlation}]}}, ``near_duplicates`` (the thresholds),
        ``notes`` (what reading left out), ``without_group`` (images that name no patient, so that leakage
        between patients was not checked).
        """
        return {
            "schema": SCHEMA,
            "ttr": __version__,
            "dataset": self.dataset,
            "images": sum(sum(classes.values()) for classes in self.counts.values()),
            "counts": self.counts,
            "imbalance": round(self.imbalance, 3),
            "misleads": bool(self.causes),
            "causes": list(self.causes),
            "findings": {
                kind: {
                    "misleads": KINDS[kind][0],
                    "what": KINDS[kind][1],
                    "cases": [entry.to_json() for entry in entries],
                }
                for kind, entries in self.findings.items()
            },
            "near_duplicates": {
                "hash": "phash, 256 bits",
                "distance": DISTANCE,
                "same": SAME,
                "look_alike": ALIKE,
            },
            "notes": list(self.notes),
            "without_group": self.without_group,
        }


@dataclass(frozen=True)
class Imprint:
    """What is kept of an item: digest and thumbnail, or why it cannot be read, and what ails its mask."""

    digest: str = ""
    thumb: np.ndarray | None = None
    trouble: str = ""
    mask_trouble: str = ""


def audit(dataset: Dataset, *, workers: int | None = None, progress: bool = False) -> Audit:
    """Read every image of a set and return what was found.

    Args:
        dataset: the set.
        workers: processes that read; None: one for a small set, else one a core.
        progress: show a progress bar with an estimate.
    """
    import joblib

    workers = workers or (1 if len(dataset.items) < WORTH_PROCESSES else joblib.cpu_count())
    reader = replace(dataset, items=())
    tasks = (joblib.delayed(_imprint)(reader, item) for item in dataset.items)
    imprints: dict[Item, Imprint] = {}
    with progress_bar("checking", len(dataset.items), show=progress) as advance:
        seen = joblib.Parallel(n_jobs=workers, return_as="generator")(tasks)
        for item, imprint in zip(dataset.items, seen, strict=True):
            imprints[item] = imprint
            advance(1)
    found: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    for kind, entry in _findings(dataset, imprints):
        found[kind].append(entry)
    patients = dataset.groups == "patients"
    return Audit(
        dataset=dataset.name,
        counts=_counts(dataset),
        findings={kind: tuple(entries) for kind, entries in found.items() if entries},
        notes=dataset.notes,
        without_group=sum(item.group is None or not patients for item in dataset.items),
        groups="" if patients or not groups_of(dataset.items) else dataset.groups,
    )


def _imprint(dataset: Dataset, item: Item) -> Imprint:
    try:
        digest = dataset.content_hash(item)
        image = dataset.open(item)
    except ImageError as error:
        return Imprint(trouble=str(error))
    return Imprint(digest, thumbnail(image), mask_trouble=_mask_trouble(dataset, item, image.size))


def _mask_trouble(dataset: Dataset, item: Item, size: tuple[int, int]) -> str:
    """Return what ails the mask of an item that a task would read; nothing where there is none, or drawn."""
    if dataset.masks is None or item.path is None or not dataset.masks.covers(item):
        return ""
    try:
        height, width = dataset.masks.open(item).shape
    except ImageError as error:
        return str(error)
    if (width, height) == size:
        return ""
    return f"the mask of {item.name} is {width}x{height} px, the image {size[0]}x{size[1]}"


def _findings(dataset: Dataset, imprints: dict[Item, Imprint]) -> Iterator[tuple[str, Entry]]:
    for item, imprint in imprints.items():
        if imprint.trouble:
            yield "unreadable", Entry((item,), imprint.trouble)
        if imprint.mask_trouble:
            yield "mask", Entry((item,), imprint.mask_trouble)
    yield from _duplicates(imprints)
    yield from _near_duplicates(imprints)
    yield from _shared_groups(dataset.items)
    for split, classes in _counts(dataset).items():
        if not any(classes.values()):
            yield "missing-split", Entry(detail=split)
        elif split != "val":
            for label, images in classes.items():
                if images < FEWEST:
                    yield "rare-class", Entry(detail=f"{label}: {images} in {split}")


def _counts(dataset: Dataset) -> dict[Split, dict[str, int]]:
    found = Counter((item.split, item.label) for item in dataset.items)
    return {split: {label: found[split, label] for label in dataset.classes} for split in SPLITS}


def _duplicates(imprints: dict[Item, Imprint]) -> Iterator[tuple[str, Entry]]:
    same: dict[str, list[Item]] = defaultdict(list)
    for item, imprint in imprints.items():
        if not imprint.trouble:
            same[imprint.digest].append(item)
    for items in same.values():
        if len(items) > 1:
            yield from _by_harm("duplicate", Entry(tuple(items)))


def _near_duplicates(imprints: dict[Item, Imprint]) -> Iterator[tuple[str, Entry]]:
    readable = [
        (item, imprint.digest, imprint.thumb)
        for item, imprint in imprints.items()
        if imprint.thumb is not None
    ]
    pairs = near_pairs([thumb for _, _, thumb in readable])
    for pair in sorted(pairs, key=lambda pair: -pair.correlation):
        (one, digest, _), (two, other, _) = readable[pair.first], readable[pair.second]
        if digest == other:
            continue
        entry = Entry((one, two), distance=pair.distance, correlation=round(pair.correlation, 4))
        if pair.correlation >= SAME:
            yield from _by_harm("near-duplicate", entry)
        else:
            yield "look-alike", entry


def _by_harm(kind: str, entry: Entry) -> Iterator[tuple[str, Entry]]:
    """Yield a set of duplicates under each kind of harm it does, or as the warning ``kind``."""
    splits = {item.split for item in entry.items}
    across = "test" in splits and len(splits) > 1
    conflict = len({item.label for item in entry.items}) > 1
    if across:
        yield f"test-{kind}", entry
    if conflict:
        yield "conflicting-labels", entry
    if not (across or conflict):
        yield kind, entry


def _shared_groups(items: Iterable[Item]) -> Iterator[tuple[str, Entry]]:
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.group is not None:
            members[item.group].append(item)
    for group, found in members.items():
        splits = [split for split in SPLITS if any(item.split == split for item in found)]
        if len(splits) > 1:
            yield "shared-group", Entry(tuple(found), f"{group} in {', '.join(splits)}")
