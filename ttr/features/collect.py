"""All that the shelves have of a set of items, chunk behind chunk; what is missing is computed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ttr.backbones.base import Backbone
from ttr.features.chunks import Chunk, Collection, Source
from ttr.features.sharing import share
from ttr.features.shelf import Part, Shelf
from ttr.progress import progress_bar
from ttr.run import Run
from ttr.wording import counted


def collect(
    items: Sequence[Any],
    source: Source,
    shelves: Sequence[Shelf],
    compute: Callable[[Chunk, list[int]], list[Part]],
    backbone: Backbone,
    run: Run,
    *,
    label: str,
) -> list[Part]:
    """Return what each shelf has of all items, as one part; what is missing is computed and written.

    Args:
        items: what to look at, in order.
        source: how they are read.
        shelves: one a treatment.
        compute: (chunk, indices of the shelves that lack it) -> their parts, in that order.
        backbone: the model that computes them.
        run: how: workers, what a bad image does, whether there is a progress bar, and who shares the work.
        label: of the progress bar.

    Raises:
        ImageError: a bad image, with ``on_error="raise"``.
        ModelError: images came out of ``source`` in several sizes or types.
        OutputError: the cache cannot be written, or what others compute does not come.
    """
    collection = Collection(tuple(items), source, tuple(shelves), compute, backbone, run)
    share(collection, label)
    found = [_Joined(len(items)) for _ in shelves]
    taken = 0
    with progress_bar(label, len(items), show=run.progress and not run.shared) as advance:
        for chunk in collection.read_ahead(range(len(collection.chunks))):
            there = len(shelves) - chunk.parts.count(None)
            if there and not taken and not run.shared:
                run.tell(f"{label}: resuming, from what an earlier run left in the cache")
            taken += len(chunk.items) * there
            for joined, part in zip(found, collection.complete(chunk), strict=True):
                joined.add(part)
            advance(len(chunk.items))
    if taken and not run.shared:
        each = f"{len(shelves)} × " if len(shelves) > 1 else ""
        run.tell(f"{label}: {taken:,} of {each}{counted(len(items), 'image')} were in the cache")
    return [joined.part() for joined in found]


class _Joined:
    """The parts of one shelf, row behind row.

    Memory for all rows is taken at once. Arrays that are kept chunk by chunk settle in the holes that the
    model's large ones leave, and those then find no room: the process would grow with every chunk.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.arrays: dict[str, np.ndarray] = {}
        self.names: list[str] = []
        self.skipped: dict[str, str] = {}

    def add(self, part: Part) -> None:
        start, stop = len(self.names), len(self.names) + len(part.names)
        for name, rows in part.arrays.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty((self.count, *rows.shape[1:]), rows.dtype)
            kept = self.arrays[name]
            self.arrays[name] = kept = kept.astype(np.result_type(kept, rows), copy=False)
            kept[start:stop] = rows
        self.names += part.names
        self.skipped |= part.skipped

    def part(self) -> Part:
        arrays = {name: kept[: len(self.names)] for name, kept in self.arrays.items()}
        return Part(arrays, tuple(self.names), self.skipped)
