"""Images in chunks of 64, read ahead in threads, and what was computed of each chunk kept in the cache.

Every long computation over a set of images goes this way: a chunk is read and decoded once, whatever is not
in the cache yet is computed of it, and each result is written as a part that is whole or absent. So memory
holds a few chunks, a computation that was killed goes on where it stopped, and its files are the same in the
end.

A kept part knows its images by their places in the chunk alone. Names of files are names of patients, and
say nothing of content: an image that is called otherwise today finds the same part.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ttr.datasets.registry import bad_image
from ttr.errors import ImageError, ModelError
from ttr.features.shelf import Part, Shelf, digest_of
from ttr.progress import progress_bar
from ttr.run import Run

PART = 64
#: Stands in a kept reason where the image's name stood.
IMAGE = "<image>"


class Named(Protocol):
    """Anything with a name that is unique in its set."""

    @property
    def name(self) -> str:
        """The name."""
        ...


@dataclass(frozen=True)
class Source:
    """How the items of a set become model inputs.

    Attributes:
        content_hash: item -> hash of all that decides its input.
        read: item -> tensor; raises ImageError.
    """

    content_hash: Callable[[Any], str]
    read: Callable[[Any], Tensor]


@dataclass(frozen=True)
class Chunk:
    """A chunk of items as it comes out of a reading thread.

    Attributes:
        index: its number.
        items: all of them, the unreadable ones too.
        digest: of their contents.
        readable: those that could be read; none are where everything was in the cache already.
        images: their inputs, one row a readable item, [n, ...], in one piece of memory.
        skipped: {name: reason} of the unreadable ones.
        parts: what each shelf has of them already, or None.
    """

    index: int
    items: tuple[Any, ...]
    digest: str
    readable: tuple[Any, ...] = ()
    images: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    parts: tuple[Part | None, ...] = field(default=(), repr=False)

    def part(self, arrays: dict[str, Any]) -> Part:
        """Return a part of arrays with one row a readable item, as it is kept: places instead of names."""
        places = {item.name: str(place) for place, item in enumerate(self.items)}
        skipped = {places[name]: _nameless(reason, name) for name, reason in self.skipped.items()}
        return Part(arrays, tuple(places[item.name] for item in self.readable), skipped)

    def named(self, part: Part | None) -> Part | None:
        """Return a kept part with the names that its images have now; None where it is not of this chunk."""
        if part is None:
            return None
        names = {str(place): item.name for place, item in enumerate(self.items)}
        if sorted([*part.names, *part.skipped]) != sorted(names):
            return None
        skipped = {names[at]: reason.replace(IMAGE, names[at]) for at, reason in part.skipped.items()}
        return Part(part.arrays, tuple(names[at] for at in part.names), skipped)


def collect(
    items: Sequence[Any],
    source: Source,
    shelves: Sequence[Shelf],
    compute: Callable[[Chunk, list[int]], list[Part]],
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
        run: how: workers, what a bad image does, whether there is a progress bar.
        label: of the progress bar.

    Raises:
        ImageError: a bad image, with ``on_error="raise"``.
        ModelError: images came out of ``source`` in several sizes or types.
        OutputError: the cache cannot be written.
    """
    found = [_Joined(len(items)) for _ in shelves]
    taken = 0
    with progress_bar(label, len(items), show=run.progress) as advance:
        for chunk in _read_ahead(tuple(items), source, shelves, run.workers):
            parts = list(chunk.parts)
            missing = [index for index, part in enumerate(parts) if part is None]
            if not taken and len(missing) < len(parts):
                run.tell(f"{label}: resuming, from what an earlier run left in the cache")
            taken += len(chunk.items) * (len(parts) - len(missing))
            if missing:
                for index, made in zip(missing, compute(chunk, missing), strict=True):
                    shelves[index].write(shelves[index].path(chunk.index, chunk.digest), made)
                    parts[index] = chunk.named(made)
            for joined, part in zip(found, parts, strict=True):
                assert part is not None
                if part.skipped and run.on_error == "raise":
                    raise bad_image(*next(iter(part.skipped.items())))
                joined.add(part)
            advance(len(chunk.items))
    if taken:
        each = f"{len(shelves)} × " if len(shelves) > 1 else ""
        run.tell(f"{label}: {taken:,} of {each}{len(items):,} images were in the cache")
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


def chunked(items: Sequence[Any]) -> list[Sequence[Any]]:
    """Return items in chunks of 64, in order.

    A last chunk of one would be a batch of one, which no shuffle can be drawn of: it joins the one before.
    """
    starts = list(range(0, len(items), PART))
    if len(starts) > 1 and len(items) - starts[-1] == 1:
        starts.pop()
    return [items[start:stop] for start, stop in zip(starts, [*starts[1:], len(items)], strict=True)]


def _read_ahead(
    items: tuple[Any, ...], source: Source, shelves: Sequence[Shelf], workers: int
) -> Iterator[Chunk]:
    pending: deque[Future[Chunk]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index, part in enumerate(chunked(items)):
                pending.append(pool.submit(_read, index, part, source, shelves))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _read(index: int, items: Sequence[Any], source: Source, shelves: Sequence[Shelf]) -> Chunk:
    chunk = Chunk(index, tuple(items), digest_of([content_hash(source.content_hash, item) for item in items]))
    chunk = replace(
        chunk, parts=tuple(chunk.named(shelf.read(shelf.path(index, chunk.digest))) for shelf in shelves)
    )
    if None not in chunk.parts:
        return chunk
    # One piece of memory a chunk, returned whole when the chunk is done. Single images would live among the
    # short-lived arrays of decoding and of the model, and leave holes that grow with every chunk.
    images = torch.empty(0)
    readable: list[Any] = []
    skipped: dict[str, str] = {}
    for item in items:
        try:
            read = source.read(item)
        except ImageError as error:
            skipped[item.name] = str(error)
            continue
        if not readable:
            images = torch.empty((len(items), *read.shape), dtype=read.dtype)
        _check_alike(read, images[0], item.name)
        images[len(readable)] = read
        readable.append(item)
    images = images[: len(readable)]
    return replace(chunk, readable=tuple(readable), images=images, skipped=skipped)


def _nameless(reason: str, name: str) -> str:
    return re.sub(rf"(?<![\w/]){re.escape(name)}(?!\w)", IMAGE, reason)


def _check_alike(read: Tensor, first: Tensor, name: str) -> None:
    if (read.shape, read.dtype) != (first.shape, first.dtype):
        raise ModelError(
            f"preprocessing made {tuple(read.shape)} {read.dtype} of {name} and {tuple(first.shape)} "
            f"{first.dtype} of an image before it; needed the same size and type for every image"
        )


def content_hash(hashed: Callable[[Any], str], item: Named) -> str:
    """Return the hash of an item's content, or, where it cannot be read, a text that no content has."""
    try:
        return hashed(item)
    except ImageError:
        return f"unreadable {item.name}"
