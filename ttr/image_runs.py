"""Images in runs of 64, read ahead in threads, and what was computed of each run kept in the cache.

Every long computation over a set of images goes this way: a run is read and decoded once, whatever is not in
the cache yet is computed of it, and each result is written as a part that is whole or absent. So memory holds
a few runs, a computation that was killed goes on where it stopped, and its files are the same in the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ttr.errors import ImageError, OptionError
from ttr.feature_cache import Part, Shelf, digest_of
from ttr.progress import progress_bar

PART = 64


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
class Run:
    """A run of items as it comes out of a reading thread.

    Attributes:
        index: its number.
        items: all of them, the unreadable ones too.
        digest: of their contents.
        inputs: one an item, or why there is none; empty where everything is in the cache.
    """

    index: int
    items: tuple[Any, ...]
    digest: str
    inputs: tuple[Tensor | ImageError, ...]

    @property
    def readable(self) -> list[tuple[Any, Tensor]]:
        """The items that could be read, with their inputs."""
        return [(item, x) for item, x in zip(self.items, self.inputs, strict=True) if isinstance(x, Tensor)]

    def part(self, arrays: dict[str, Any]) -> Part:
        """Return a part of arrays with one row a readable item."""
        pairs = zip(self.items, self.inputs, strict=True)
        skipped = {item.name: str(x) for item, x in pairs if isinstance(x, ImageError)}
        return Part(arrays, tuple(item.name for item, _ in self.readable), skipped)


def collect(
    items: Sequence[Any],
    source: Source,
    shelves: Sequence[Shelf],
    compute: Callable[[Run, list[int]], list[Part]],
    *,
    label: str,
    on_error: str = "raise",
    workers: int = 2,
    progress: bool = False,
) -> list[list[Part]]:
    """Return each shelf's parts, run by run; what is missing is computed and written.

    Args:
        items: what to look at, in order.
        source: how they are read.
        shelves: one a treatment.
        compute: (run, indices of the shelves that lack it) -> their parts, in that order.
        label: of the progress bar.
        on_error: ``"raise"``: a bad image ends the run, by name; ``"skip"``: it is recorded and left out.
        workers: threads that read and decode ahead.
        progress: show a progress bar with an estimate.

    Raises:
        ImageError: a bad image, with ``on_error="raise"``.
        OptionError: a value is outside its range.
        OutputError: the cache cannot be written.
    """
    check_on_error(on_error)
    if workers < 1:
        raise OptionError(f"workers={workers}; needed at least 1")
    found: list[list[Part]] = [[] for _ in shelves]
    with progress_bar(label, len(items), show=progress) as advance:
        for run in _read_ahead(tuple(items), source, shelves, workers):
            paths = [shelf.path(run.index, run.digest) for shelf in shelves]
            parts = [shelf.read(path) for shelf, path in zip(shelves, paths, strict=True)]
            missing = [index for index, part in enumerate(parts) if part is None]
            if missing:
                for index, made in zip(missing, compute(run, missing), strict=True):
                    shelves[index].write(paths[index], made)
                    parts[index] = made
            for kept, part in zip(found, parts, strict=True):
                assert part is not None
                if part.skipped and on_error == "raise":
                    name, reason = next(iter(part.skipped.items()))
                    raise ImageError(f"{reason} ({name}); leave bad images out with --on-error skip")
                kept.append(part)
            advance(len(run.items))
    return found


def check_on_error(on_error: str) -> None:
    """Raise OptionError unless ``on_error`` is ``"raise"`` or ``"skip"``."""
    if on_error not in ("raise", "skip"):
        raise OptionError(f"on_error={on_error!r}; needed 'raise' or 'skip'")


def _read_ahead(
    items: tuple[Any, ...], source: Source, shelves: Sequence[Shelf], workers: int
) -> Iterator[Run]:
    starts = range(0, len(items), PART)
    # A last run of one would be a batch of one, which no shuffle can be drawn of: it joins the one before.
    alone = len(starts) > 1 and len(items) - starts[-1] == 1
    runs = [items[start : start + PART] for start in starts]
    if alone:
        runs = [*runs[:-2], runs[-2] + runs[-1]]
    pending: deque[Future[Run]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index, run in enumerate(runs):
                pending.append(pool.submit(_read, index, run, source, shelves))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _read(index: int, items: tuple[Any, ...], source: Source, shelves: Sequence[Shelf]) -> Run:
    digest = digest_of([content_hash(source.content_hash, item) for item in items])
    needed = any(shelf.read(shelf.path(index, digest)) is None for shelf in shelves)
    return Run(index, items, digest, tuple(_input(source, item) for item in items) if needed else ())


def content_hash(hashed: Callable[[Any], str], item: Named) -> str:
    """Return the hash of an item's content, or, where it cannot be read, a text that no content has."""
    try:
        return hashed(item)
    except ImageError:
        return f"unreadable {item.name}"


def _input(source: Source, item: Named) -> Tensor | ImageError:
    try:
        return source.read(item)
    except ImageError as error:
        return error
