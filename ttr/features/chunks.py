"""Images in chunks of 64, read ahead in threads, and what was computed of each chunk kept in the cache.

Every long computation over a set of images goes this way: a chunk is read and decoded once, whatever is not
in the cache yet is computed of it, and each result is written as a part that is whole or absent. So memory
holds a few chunks, a computation that was killed goes on where it stopped, and its files are the same in the
end.

Several processes, or the machines of a cluster, share chunks by number: what is computed of one depends on no
other, so parts are one process's, and whoever reads all of them has what one process has.

A kept part knows its images by their places in the chunk alone. Names of files are names of patients, and
say nothing of content: an image that is called otherwise today finds the same part.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.datasets.registry import bad_image
from ttr.errors import ImageError, ModelError
from ttr.features.shelf import Part, Shelf, digest_of
from ttr.machines.actors import Job
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


@dataclass(frozen=True, eq=False)
class Collection(Job):
    """What is to be had of all items, chunk by chunk: see :func:`ttr.features.collect.collect`.

    Attributes:
        items: what to look at, in order.
        source: how they are read.
        shelves: one a treatment.
        compute: (chunk, indices of the shelves that lack it) -> their parts, in that order.
        backbone: the model that computes them.
        run: how.
    """

    items: tuple[Any, ...]
    source: Source
    shelves: tuple[Shelf, ...]
    compute: Callable[[Chunk, list[int]], list[Part]]
    backbone: Backbone
    run: Run
    _digests: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def chunks(self) -> list[Sequence[Any]]:
        """The items of each chunk."""
        return chunked(self.items)

    def move(self, device: str) -> None:
        """Bring the model to a worker's device."""
        self.backbone.model.to(device)

    def do(self, piece: int) -> None:
        """Complete one chunk."""
        self.complete(self._read(piece))

    def lacks(self, index: int) -> bool:
        """Return whether a part of a chunk is not there."""
        digest = self._digest(index)
        return any(not shelf.path(index, digest).exists() for shelf in self.shelves)

    def complete(self, chunk: Chunk) -> list[Part]:
        """Return the part of each shelf; those that are missing are computed and written.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            OutputError: the cache cannot be written.
        """
        parts = list(chunk.parts)
        missing = [index for index, part in enumerate(parts) if part is None]
        if missing:
            for index, made in zip(missing, self.compute(chunk, missing), strict=True):
                self.shelves[index].write(self.shelves[index].path(chunk.index, chunk.digest), made)
                parts[index] = chunk.named(made)
        whole = [part for part in parts if part is not None]
        assert len(whole) == len(parts)
        for part in whole:
            if part.skipped and self.run.on_error == "raise":
                raise bad_image(*next(iter(part.skipped.items())))
        return whole

    def read_ahead(self, indices: Iterable[int]) -> Iterator[Chunk]:
        """Yield some chunks in order; ``workers`` more are read meanwhile."""
        pending: deque[Future[Chunk]] = deque()
        with ThreadPoolExecutor(self.run.workers) as pool:
            try:
                for index in indices:
                    pending.append(pool.submit(self._read, index))
                    if len(pending) > self.run.workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _digest(self, index: int) -> str:
        if index not in self._digests:
            hashes = [content_hash(self.source.content_hash, item) for item in self.chunks[index]]
            self._digests[index] = digest_of(hashes)
        return self._digests[index]

    def _read(self, index: int) -> Chunk:
        items, digest = self.chunks[index], self._digest(index)
        chunk = Chunk(index, tuple(items), digest)
        kept = (chunk.named(shelf.read(shelf.path(index, digest))) for shelf in self.shelves)
        chunk = replace(chunk, parts=tuple(kept))
        return chunk if None not in chunk.parts else _opened(chunk, self.source)


def chunked(items: Sequence[Any]) -> list[Sequence[Any]]:
    """Return items in chunks of 64, in order.

    A last chunk of one would be a batch of one, which no shuffle can be drawn of: it joins the one before.
    """
    starts = list(range(0, len(items), PART))
    if len(starts) > 1 and len(items) - starts[-1] == 1:
        starts.pop()
    return [items[start:stop] for start, stop in zip(starts, [*starts[1:], len(items)], strict=True)]


def _opened(chunk: Chunk, source: Source) -> Chunk:
    """Return a chunk with the images that can be read."""
    # One piece of memory a chunk, returned whole when the chunk is done. Single images would live among the
    # short-lived arrays of decoding and of the model, and leave holes that grow with every chunk.
    images = torch.empty(0)
    readable: list[Any] = []
    skipped: dict[str, str] = {}
    for item in chunk.items:
        try:
            read = source.read(item)
        except ImageError as error:
            skipped[item.name] = str(error)
            continue
        if not readable:
            images = torch.empty((len(chunk.items), *read.shape), dtype=read.dtype)
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
