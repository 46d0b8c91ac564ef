"""One detection by several processes, which share its images and wait for nobody.

The images are cut into stretches, whatever the number of processes: whole batches, and whole groups of those
whose neurons are computed together, so that every number comes from the same product as in one process. Each
process looks at every so-many-th stretch and writes what it showed as a part, whole or absent, that is sealed
with everything that decides it. A part that is there is not made again: after a kill, or with another number
of processes, the rest is done. Whoever finds all parts there merges them, in the order of the images.

The sums are exact but for the order in which float64 numbers are added. Two decisions go through all images,
though. Which half of the images one belongs to is said by how many were before it: a stretch that follows an
odd number has its halves exchanged. Whether an image is another one's double is said by the pictures before
it (:mod:`ttr.registers.doubles`), and a process knows only those of the parts that are there by then. So a
part holds the thumbnails of its images with outliers, and what it took them for. The merge decides again, by
all images before; where the answer is another one for any image, that stretch is looked at once more.

Images that cannot be read and are skipped move the batches behind them, in one process; then, and with
another number of threads, the same holds to the rounding of the model's own type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead, bad_image
from ttr.errors import ImageError, OutputError
from ttr.files import TensorsError, load_tensors, save_tensors
from ttr.progress import Advance, progress_bar
from ttr.ranks import Rank
from ttr.registers.detection import DetectionRule, checked_rule, conclude, look
from ttr.registers.doubles import JudgedPictures, Pictures
from ttr.registers.evidence import IMAGES_AT_ONCE, SUMS, Evidence, Shown, Sums
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run

SCHEMA = "ttr.detection-part/1"
#: Parts of a detection at most: each holds sums over all neurons, a few megabytes.
MOST_PARTS = 256


class _Header(BaseModel):
    """What a part's file says besides its tensors."""

    images: int
    sizes: list[tuple[int, int]]
    halves: tuple[int, int]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Part:
    """What a stretch showed, and {name: reason} of its images that could not be read."""

    shown: Shown
    skipped: dict[str, str]


def stretches(count: int, batch_size: int) -> list[range]:
    """Return how ``count`` images are cut: into whole groups that one process would compute together."""
    group = batch_size * -(-IMAGES_AT_ONCE // batch_size)
    size = group * max(1, -(-count // (group * MOST_PARTS)))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass
class SharedDetection:
    """The parts of one detection, in a folder of their own.

    Attributes:
        folder: named by everything that decides the detection but the batch size.
        backbone: the bare backbone.
        images: all of them.
        run: how.
        rule: what makes a register neuron.
    """

    folder: Path
    backbone: Backbone
    images: OpenedImages
    run: Run
    rule: DetectionRule
    _thumbnails: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.rule = checked_rule(self.backbone, self.rule)
        self.stretches = stretches(len(self.images), self.run.batch_size)

    def path(self, index: int) -> Path:
        """Return where a part lies, or will."""
        return (
            self.folder
            / f"part-{index:03d}-of-{len(self.stretches):03d}-in-{self.run.batch_size}s.safetensors"
        )

    def missing(self) -> int:
        """Return how many parts are not there."""
        return sum(not self.path(index).exists() for index in range(len(self.stretches)))

    def write_own(self, rank: Rank) -> None:
        """Write those of a process's parts that are not there.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            OutputError: the folder cannot be written.
        """
        own = [index for index in range(len(self.stretches)) if rank.takes(index)]
        lacking = [index for index in own if self.read(index) is None]
        if len(lacking) < len(own):
            self.run.tell(f"detecting: resuming, {len(own) - len(lacking)} of {len(own)} parts are there")
        total = sum(len(self.stretches[index]) for index in lacking)
        show = self.run.progress and rank.index == 0
        with progress_bar("detecting", total, show=show) as advance:
            for index in lacking:
                self._write(index, advance)

    def merged(self, skipped: dict[str, str]) -> RegisterNeurons:
        """Return what all parts show together, and add to ``skipped`` what was left out for it.

        Raises:
            OutputError: a part is missing or damaged.
            ImageError: there is no readable image, or a bad one with ``on_error="raise"``.
        """
        evidence = Evidence(self.backbone)
        for index in range(len(self.stretches)):
            part = self.read(index)
            if part is None:
                raise OutputError(
                    f"{self.path(index)} is missing or damaged, one of {len(self.stretches)} parts that were "
                    "to be merged; run the same command again, which makes this part alone"
                )
            if part.skipped and self.run.on_error == "raise":
                raise bad_image(*next(iter(part.skipped.items())))
            skipped |= part.skipped
            if not evidence.join(part.shown):
                self._look(index, evidence, lambda done: None)
        if skipped and not evidence.images:
            first = next(iter(skipped.values()))
            raise ImageError(f"not one of {len(skipped)} images could be read; the first: {first}")
        return conclude(self.backbone, evidence, self.rule, self.images.words)

    def read(self, index: int) -> Part | None:
        """Return a part, or None where it is not there or damaged."""
        try:
            tensors, found = load_tensors(self.path(index), "part", SCHEMA, place=self._place(index))
            header = _Header.model_validate(found)
        except (TensorsError, ValidationError):
            return None
        first, second = (
            Sums(**{name: tensors[f"{name}.{half}"] for name in SUMS}, images=header.halves[half])
            for half in (0, 1)
        )
        thumbnails, new = tensors["thumbnails"].numpy(), tensors["new"].numpy()
        shown = Shown(header.images, frozenset(header.sizes), (first, second), thumbnails, new)
        return Part(shown, header.skipped)

    def _write(self, index: int, advance: Advance) -> None:
        pictures = JudgedPictures(self._before(index))
        evidence = Evidence(self.backbone, pictures)
        skipped = self._look(index, evidence, advance)
        evidence.settle()
        tensors: dict[str, Any] = {
            f"{name}.{half}": x.numpy()
            for half, sums in enumerate(evidence.halves)
            for name, x in sums.tensors().items()
        }
        tensors["thumbnails"] = np.array(pictures.asked, np.float32).reshape(-1, 64)
        tensors["new"] = np.array(pictures.answers, bool)
        header = {
            "schema": SCHEMA,
            "images": evidence.images,
            "sizes": sorted(evidence.sizes),
            "halves": [half.images for half in evidence.halves],
            "skipped": skipped,
        }
        save_tensors(self.path(index), tensors, "part", header, place=self._place(index))

    def _look(self, index: int, evidence: Evidence, advance: Advance) -> dict[str, str]:
        """Add a stretch's images to some evidence, and return which could not be read, and why."""
        reading = ReadAhead(self.images.take(self.stretches[index]), self.run)
        look(self.backbone, _readable(reading), self.rule, evidence, self.run.batch_size, advance)
        return reading.skipped

    def _before(self, index: int) -> Pictures:
        """Return the pictures of the images before a part, as far as their parts are there by now."""
        pictures = Pictures()
        for earlier in range(index):
            if earlier not in self._thumbnails and (part := self.read(earlier)) is not None:
                self._thumbnails[earlier] = part.shown.thumbnails
            for thumbnail in self._thumbnails.get(earlier, ()):
                pictures.is_new(thumbnail)
            if pictures.full:
                break
        return pictures

    def _place(self, index: int) -> str:
        """Return what a part is sealed as."""
        return f"{self.folder.name}/{self.path(index).stem}"


def _readable(reading: ReadAhead) -> Iterator[Any]:
    """Yield the images that can be read; unlike in a whole set, there may be none of them."""
    try:
        yield from reading
    except ImageError:
        if len(reading.skipped) < len(reading):
            raise
