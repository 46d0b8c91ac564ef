"""Images in, a folder of shards out: one process of several or the only one, run again until it is whole.

The folder holds ``plan.json`` (first), ``shard-00000-of-00010.parquet`` and so on, and ``manifest.json``
(last). Shards are dealt out to the processes, each writes its own, and whoever finds all of them there
writes the manifest. A batch never reaches from one shard into the next, so a shard's bytes depend neither on
how many processes there are nor on where an earlier run was killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.backbones.made_input import Preprocess
from ttr.datasets.places.listing import Entry, Listing
from ttr.datasets.places.opening import images_at, open_entry
from ttr.datasets.registry import bad_image
from ttr.files import MANIFEST
from ttr.forward.ahead import Decoded, decoded_ahead
from ttr.progress import progress_bar
from ttr.ranks import Rank
from ttr.registers.arms import PLAIN, Arm
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.embed.folder import check_folder
from ttr.studies.embed.manifest import is_of, write_manifest
from ttr.studies.embed.plan import Plan, Shard, begin, plan_of
from ttr.studies.embed.rows import Rows
from ttr.studies.embed.settings import EmbedSettings
from ttr.studies.embed.shards import Said, ShardRows, first_error, said_of, write_shard
from ttr.wording import counted

T = TypeVar("T")


@dataclass(frozen=True)
class Embedded:
    """What lies in the folder now.

    Attributes:
        out: the folder.
        images: that were listed.
        errors: those that have a reason instead of an embedding, in the shards that are there.
        shards: how many there must be.
        missing: those that other processes have still to write; 0: the manifest is there.
    """

    out: Path
    images: int
    errors: int
    shards: int
    missing: int


class Named(NamedTuple):
    """An image to read, and what its row is called."""

    entry: Entry
    name: str


@dataclass(frozen=True)
class Read:
    """How a worker reads an image."""

    preprocess: Preprocess

    def __call__(self, image: Named) -> Tensor:
        """Return the model's input, [C, H, W]; raises ImageError."""
        return self.preprocess(open_entry(image.entry, image.name))


def embed_images(
    backbone: Backbone,
    images: str | Path | Listing,
    out: str | Path,
    *,
    neurons: RegisterNeurons | None = None,
    settings: EmbedSettings | None = None,
    run: Run | None = None,
    anonymous: bool = False,
) -> Embedded:
    """Write the embeddings of any number of images as Parquet shards, and go on where an earlier run stopped.

    Under ``torchrun`` each process writes its own shards. Memory holds one shard and a few batches.

    Args:
        backbone: the bare backbone.
        images: a folder, a tar file, a table, an address that fsspec knows, or what
            :func:`ttr.datasets.places.opening.images_at` made of one.
        out: the folder; one that was begun with the same model, settings and images is gone on with.
        neurons: wrap the model with them; None: it is bare.
        settings: what is kept of each image.
        run: how; ``workers`` are processes, and its batch size decides rounding.
        anonymous: rows are called ``image 1``, ``image 2``, ... in the order of the listing.

    Raises:
        ImageError: the images cannot be listed, or one cannot be read with ``on_error="raise"``.
        OutputError: ``out`` was begun with something else, which is named, or cannot be written.
        TTRError: what is asked for cannot be had of this model.
    """
    backbone, settings, run, out = as_backbone(backbone), settings or EmbedSettings(), run or Run(), Path(out)
    run.check(backbone)
    check_folder(out)
    listing = images if isinstance(images, Listing) else images_at(images)
    arm = PLAIN
    if neurons is not None:
        neurons.check(backbone)
        arm = Arm("ttr", neurons, settings.num_registers)
    naming = _Naming(listing, anonymous)
    rows = Rows.of(backbone, arm.neurons, settings)
    plan = plan_of(backbone, arm, listing, naming.all(), settings, run)
    begin(out, plan)
    with arm.applied(backbone):
        _write_own(out, plan, naming, rows, run, Rank.of())
    return _ended(out, plan, run)


@dataclass(frozen=True)
class _Naming:
    """What rows are called: as the images are, or by their places."""

    listing: Listing
    anonymous: bool

    def all(self) -> Iterator[str]:
        return (each.name for each in self.of(0, len(self.listing)))

    def of(self, start: int, end: int) -> Iterator[Named]:
        for place in range(start, end):
            entry = self.listing.entry(place)
            yield Named(entry, f"image {place + 1}" if self.anonymous else entry.name)


def _write_own(out: Path, plan: Plan, naming: _Naming, rows: Rows, run: Run, rank: Rank) -> None:
    """Write those of this process's shards that are not there."""
    own = [shard for shard in plan.shards if rank.takes(shard.index)]
    missing = [shard for shard in own if _kept(out, shard, plan, run) is None]
    if len(missing) < len(own):
        run.tell(
            f"embedding: resuming, {len(own) - len(missing):,} of {counted(len(own), 'shard')} are there"
        )
    if not missing:
        return
    with suppress(FileNotFoundError):
        (out / MANIFEST).unlink()  # of a folder from which a shard was taken away
    total = sum(shard.end - shard.start for shard in missing)
    asked = ([*naming.of(start, end)] for _, start, end in _batches(missing, run.batch_size))
    batches = decoded_ahead(asked, Read(rows.backbone.preprocess_alone), run.workers, rows.backbone.device)
    storage = getattr(torch, rows.settings.storage)
    with progress_bar("embedding", total, show=run.progress and rank.index == 0) as advance:
        computed = _one_late(_computed(batches, rows))
        for shard in missing:
            names = [each.name for each in naming.of(shard.start, shard.end)]
            held = ShardRows(names, storage)
            for _, start, end in _batches([shard], run.batch_size):
                found, errors = next(computed)
                held.put(start - shard.start, {name: x.cpu() for name, x in found.items()})
                held.errors |= {start - shard.start + place: why for place, why in errors.items()}
                if held.errors and run.on_error == "raise":
                    row = min(held.errors)
                    raise bad_image(names[row], held.errors[row])
                advance(end - start)
            if not held.arrays:
                held.put(0, {name: x[:0] for name, x in rows.of_nothing().items()})
            write_shard(out, shard, plan.digest, held)


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


def _kept(out: Path, shard: Shard, plan: Plan, run: Run) -> Said | None:
    """Return what a shard that is there says of itself, or None.

    Raises:
        ImageError: it holds errors that an earlier run skipped, and this one is not to.
    """
    said = said_of(out, shard, plan.digest)
    if said is not None and said.errors and run.on_error == "raise":
        with suppress(ValueError):
            raise bad_image(*first_error(out, shard))
        return None
    return said


def _ended(out: Path, plan: Plan, run: Run) -> Embedded:
    said = [said_of(out, shard, plan.digest) for shard in plan.shards]
    missing = said.count(None)
    if not missing and not is_of(out, plan):
        write_manifest(out, plan)
    errors = sum(each.errors for each in said if each is not None)
    return Embedded(out, plan.source.images, errors, len(said), missing)
