"""Work over a set of images that several processes share, without waiting for each other.

The images are cut into stretches, whatever the number of processes: whole batches, and whole groups of those
that detection computes together, so that every number comes from the same product as in one process. Each
process takes every so-many-th stretch, a worker of a cluster the next one, and writes what it showed as a
part, whole or absent, that is sealed with everything that decides it. A part that is there is not made again:
after a kill, or with another number of processes, the rest is done. Whoever finds all parts there merges
them, in the order of the images.

Images that cannot be read and are skipped move the batches behind them, in one process. Then, and with
another number of threads, the result is equal to the rounding of the model's own type alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead, bad_image
from ttr.errors import ImageError, OutputError
from ttr.features.sharing import seen_here
from ttr.files import load_tensors, save_tensors
from ttr.machines.actors import Job, done_by_machines
from ttr.progress import Advance, progress_bar
from ttr.ranks import Rank
from ttr.registers.evidence import IMAGES_AT_ONCE
from ttr.run import Run
from ttr.wording import counted

SCHEMA = "ttr.shared-part/1"
#: Parts at most: one holds sums over all neurons or tokens of a model, a few megabytes.
MOST_PARTS = 256
#: Tensors and JSON values.
Content = tuple[dict[str, np.ndarray], dict[str, Any]]
T = TypeVar("T")


def stretches(count: int, batch_size: int) -> list[range]:
    """Return how ``count`` images are cut: into whole groups that one process would compute together."""
    group = batch_size * -(-IMAGES_AT_ONCE // batch_size)
    size = group * max(1, -(-count // (group * MOST_PARTS)))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


class Shared(Job, Generic[T]):
    """The parts of one piece of work, in a folder of their own.

    Attributes:
        label: what is done, in a word.
        folder: named by everything that decides the work but the batch size.
        backbone: the model.
        images: all of them.
        run: how.
        stretches: places of the images of each part.
    """

    label = ""

    def __init__(self, folder: Path, backbone: Backbone, images: OpenedImages, run: Run) -> None:
        self.folder, self.backbone, self.images, self.run = folder, backbone, images, run
        self.stretches = stretches(len(images), run.batch_size)

    @abstractmethod
    def made(self, index: int, advance: Advance) -> Content:
        """Compute a part; ``skipped`` among its values is {name: reason} of images that could not be read."""

    @abstractmethod
    def merged(self, skipped: dict[str, str]) -> T:
        """Return what all parts show together, and add to ``skipped`` what was left out for it.

        Raises:
            OutputError: a part is missing or damaged.
            ImageError: there is no readable image, or a bad one with ``on_error="raise"``.
        """

    def path(self, index: int) -> Path:
        """Return where a part lies, or will."""
        count = len(self.stretches)
        return self.folder / f"part-{index:03d}-of-{count:03d}-in-{self.run.batch_size}s.safetensors"

    def missing(self) -> int:
        """Return how many parts are not there."""
        return sum(not self.path(index).exists() for index in range(len(self.stretches)))

    def move(self, device: str) -> None:
        """Bring the model to a worker's device."""
        self.backbone.model.to(device)

    def do(self, piece: int) -> None:
        """Compute a part and write it.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            OutputError: the folder cannot be written.
        """
        self._write(piece, lambda done: None)

    def write_own(self, rank: Rank) -> None:
        """Write those of a process's parts that are not there, or have the run's machines write them.

        Raises:
            TTRError: as :meth:`do`, or as :func:`ttr.machines.actors.done_by_machines`.
        """
        own = [index for index in range(len(self.stretches)) if rank.takes(index)]
        lacking = [index for index in own if self.read(index) is None]
        if len(lacking) < len(own):
            self.run.tell(f"{self.label}: resuming, {len(own) - len(lacking)} of {len(own)} parts are there")
        if not lacking:
            return
        total = sum(len(self.stretches[index]) for index in lacking)
        with progress_bar(self.label, total, show=self.run.progress and rank.index == 0) as advance:
            if self.run.machines is not None:
                self._write_on_machines(lacking, advance)
                return
            for index in lacking:
                self._write(index, advance)

    def _write(self, index: int, advance: Advance) -> None:
        tensors, values = self.made(index, advance)
        header = {"schema": SCHEMA, **values}
        save_tensors(self.path(index), tensors, "part", header, place=self._place(index))

    def _write_on_machines(self, lacking: list[int], advance: Advance) -> None:
        assert self.run.machines is not None
        job, device = copy(self), self.run.computes_on(self.backbone)
        job.run = self.run.alone()
        for index in done_by_machines(job, lacking, self.run.machines, device):
            seen_here(lambda index=index: int(not self.path(index).exists()), self.folder)  # type: ignore[misc]
            advance(len(self.stretches[index]))

    def read(self, index: int) -> Content | None:
        """Return a part, or None where it is not there or damaged."""
        try:
            return load_tensors(self.path(index), "part", SCHEMA, "np", place=self._place(index))
        except ValueError:
            return None

    def parts(self, skipped: dict[str, str]) -> Iterator[tuple[int, Content]]:
        """Yield all parts in order; raises as :meth:`merged`."""
        readable = False
        for index, stretch in enumerate(self.stretches):
            part = self.read(index)
            if part is None:
                raise OutputError(
                    f"{self.path(index)} is missing or damaged, one of {len(self.stretches)} parts that were "
                    "to be merged; run the same command again, which makes this part alone"
                )
            lacking = part[1]["skipped"]
            if lacking and self.run.on_error == "raise":
                raise bad_image(*next(iter(lacking.items())))
            skipped |= lacking
            readable |= len(lacking) < len(stretch)
            yield index, part
        if skipped and not readable:
            first = next(iter(skipped.values()))
            raise ImageError(f"not one of {counted(len(skipped), 'image')} could be read; the first: {first}")

    def reading(self, index: int) -> Stretch:
        """Return the images of a stretch."""
        return Stretch(self.images.take(self.stretches[index]), self.run)

    def _place(self, index: int) -> str:
        """Return what a part is sealed as."""
        return f"{self.folder.parent.name}/{self.folder.name}/{self.path(index).stem}"


class Stretch(ReadAhead):
    """Images read ahead, of which, unlike of a whole set, not one need be readable."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the images that can be read."""
        try:
            yield from super().__iter__()
        except ImageError:
            if len(self.skipped) < len(self):
                raise
