"""Shards from their images: what every process does that writes some, on whatever machine it is.

A batch never reaches from one shard into the next, so a shard's bytes depend on nothing but its own images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ttr.backbones.made_input import Preprocess
from ttr.datasets.places.copies import Copies
from ttr.datasets.places.listing import Entry
from ttr.datasets.places.opening import open_entry
from ttr.datasets.registry import bad_image
from ttr.forward.ahead import Decoded, decoded_ahead
from ttr.progress import Advance
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.embed.plan import Plan, Shard
from ttr.studies.embed.rows import Rows
from ttr.studies.embed.shards import ShardRows, write_shard

T = TypeVar("T")


class Named(NamedTuple):
    """An image to read, and what its row is called."""

    entry: Entry
    name: str


@dataclass(frozen=True)
class Read:
    """How a worker reads an image."""

    preprocess: Preprocess
    copies: Copies | None = None

    def __call__(self, image: Named) -> Tensor:
        """Return the model's input, [C, H, W]; raises ImageError."""
        return self.preprocess(open_entry(image.entry, image.name, self.copies))


@dataclass(frozen=True)
class Work:
    """All that a process needs to write shards of a folder, but their images.

    Attributes:
        out: the folder.
        plan: what decides its bytes.
        arm: the model is bare, or wrapped.
        rows: how a batch becomes rows.
        run: how.
        copies: where what is read at an address is kept; None: nowhere.
    """

    out: Path
    plan: Plan
    arm: Arm
    rows: Rows
    run: Run
    copies: Copies | None = None

    def write(
        self, shards: Sequence[Shard], named: Callable[[int, int], Sequence[Named]], advance: Advance
    ) -> None:
        """Write shards, each whole or not at all.

        Args:
            shards: which.
            named: from one place of the listing up to another -> the images there.
            advance: is called with the number of images that are done now.

        Raises:
            ImageError: an image cannot be read, with ``on_error="raise"``.
            TTRError: the model makes nothing of the images, or the folder cannot be written.
        """
        backbone, size = self.rows.backbone, self.run.batch_size
        with self.arm.applied(backbone):
            asked = (named(start, end) for _, start, end in _batches(shards, size))
            read = Read(backbone.preprocess_alone, self.copies)
            batches = decoded_ahead(asked, read, self.run.workers, backbone.device)
            computed = _one_late(_computed(batches, self.rows))
            for shard in shards:
                names = [each.name for each in named(shard.start, shard.end)]
                held = ShardRows(names, getattr(torch, self.rows.settings.storage))
                for _, start, end in _batches([shard], size):
                    found, errors = next(computed)
                    held.put(start - shard.start, {name: x.cpu() for name, x in found.items()})
                    held.errors |= {start - shard.start + place: why for place, why in errors.items()}
                    if held.errors and self.run.on_error == "raise":
                        row = min(held.errors)
                        raise bad_image(names[row], held.errors[row])
                    advance(end - start)
                if not held.arrays:
                    held.put(0, {name: x[:0] for name, x in self.rows.of_nothing().items()})
                write_shard(self.out, shard, self.plan.digest, held)


def _batches(shards: Iterable[Shard], size: int) -> Iterator[tuple[Shard, int, int]]:
    """Yield where each batch begins and ends; none reaches from one shard into another."""
    for shard in shards:
        for start in range(shard.start, shard.end, size):
            yield shard, start, min(start + size, shard.end)


def _computed(
    batches: Iterable[Decoded], rows: Callable[[Tensor], dict[str, Tensor]]
) -> Iterator[tuple[dict[str, Tensor], dict[int, str]]]:
    """Yield what is kept of each batch, still on the device, and the errors of its images."""
    for batch in batches:
        yield (rows(batch.images) if batch.images.numel() else {}), batch.errors


def _one_late(given: Iterable[T]) -> Iterator[T]:
    """Yield each when the next one is on the way: a device has work while results are fetched from it."""
    behind: deque[T] = deque()
    for each in given:
        behind.append(each)
        if len(behind) > 1:
            yield behind.popleft()
    yield from chain(behind)
