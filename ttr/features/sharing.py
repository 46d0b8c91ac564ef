"""Chunks that several processes, or the machines of a cluster, compute for each other, in one cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

from ttr.errors import OutputError
from ttr.features.chunks import Collection
from ttr.machines.actors import done_by_machines
from ttr.progress import progress_bar
from ttr.wording import counted

#: Seconds without anything new after which a process waits no longer for the others.
PATIENCE = 3600.0
#: Seconds that a shared folder may take to show what another machine has written.
DELAY = 10.0


def share(collection: Collection, label: str) -> None:
    """Have the parts of all chunks made by those that share its run; nothing where nobody does.

    Raises:
        OutputError: what others make does not come.
        TTRError: as a chunk's computation, or :func:`ttr.machines.actors.done_by_machines`.
    """
    run = collection.run
    everything = list(range(len(collection.chunks)))
    if run.machines is not None:
        _by_machines(collection, [index for index in everything if collection.lacks(index)], label)
    elif run.rank.count > 1:
        own = [index for index in everything if run.rank.takes(index)]
        total, there = sum(len(collection.chunks[index]) for index in own), 0
        with progress_bar(label, total, show=run.progress and run.rank.index == 0) as advance:
            for chunk in collection.read_ahead(own):
                there += None not in chunk.parts
                collection.complete(chunk)
                advance(len(chunk.items))
        if there:
            run.tell(f"{label}: resuming, {there} of this process's {counted(len(own), 'chunk')} were there")
        waiting = [index for index in everything if not run.rank.takes(index)]

        def missing() -> int:
            waiting[:] = [index for index in waiting if collection.lacks(index)]
            return len(waiting)

        arrive(missing, f"chunks of {label}", run.shelves)


def arrive(missing: Callable[[], int], what: str, folder: Path) -> None:
    """Wait until nothing is missing.

    Raises:
        OutputError: nothing has come for an hour.
    """
    if lacking := wait_for(missing, PATIENCE):
        raise OutputError(
            f"{lacking:,} {what} did not come to {folder}, none of them for {PATIENCE / 60:g} minutes; run "
            "again with one --cache for all processes: what is there is kept"
        )


def wait_for(missing: Callable[[], int], patience: float) -> int:
    """Wait until nothing is missing, or nothing has come for ``patience`` seconds; return how many lack."""
    lacking, since = missing(), monotonic()
    while lacking and monotonic() - since < patience:
        sleep(min(patience, 0.5))
        before, lacking = lacking, missing()
        since = monotonic() if lacking < before else since
    return lacking


def seen_here(missing: Callable[[], int], folder: Path) -> None:
    """Raise OutputError where what a worker has written does not appear in a folder of this machine."""
    if wait_for(missing, DELAY):
        raise OutputError(
            f"what a worker computed did not come to {folder}; choose a --cache that all machines share "
            "under one path, and let each see the same images"
        )


def _by_machines(collection: Collection, lacking: list[int], label: str) -> None:
    run, total = collection.run, len(collection.chunks)
    if len(lacking) < total:
        run.tell(f"{label}: resuming, {total - len(lacking)} of {counted(total, 'chunk')} are there")
    if not lacking:
        return
    assert run.machines is not None
    job, device = replace(collection, run=run.alone()), run.computes_on(collection.backbone)
    images = sum(len(collection.chunks[index]) for index in lacking)
    with progress_bar(label, images, show=run.progress) as advance:
        for index in done_by_machines(job, lacking, run.machines, device):
            seen_here(lambda index=index: int(collection.lacks(index)), run.shelves)  # type: ignore[misc]
            advance(len(collection.chunks[index]))
