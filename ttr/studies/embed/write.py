"""Images in, a folder of shards out: one process of several or the only one, run again until it is whole.

The folder holds ``plan.json`` (first), ``shard-00000-of-00010.parquet`` and so on, and ``manifest.json``
(last). Shards are dealt out to the processes, each writes its own, and whoever finds all of them there
writes the manifest. A shard's bytes depend neither on how many processes there are, nor on which machines,
nor on where an earlier run was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.datasets.places.copies import Copies
from ttr.datasets.places.listing import Listing
from ttr.datasets.places.opening import images_at
from ttr.datasets.registry import bad_image
from ttr.files import MANIFEST
from ttr.progress import progress_bar
from ttr.ranks import Rank
from ttr.registers.arms import PLAIN, Arm
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.embed.folder import check_folder
from ttr.studies.embed.job import write_on_machines
from ttr.studies.embed.manifest import is_of, write_manifest
from ttr.studies.embed.plan import Plan, Shard, begin, plan_of
from ttr.studies.embed.rows import Rows
from ttr.studies.embed.settings import EmbedSettings
from ttr.studies.embed.shards import Said, first_error, said_of
from ttr.studies.embed.work import Named, Work
from ttr.wording import counted


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


def embed_images(
    backbone: Backbone,
    images: str | Path | Listing,
    out: str | Path,
    *,
    neurons: RegisterNeurons | None = None,
    settings: EmbedSettings | None = None,
    run: Run | None = None,
    anonymous: bool = False,
    copies: Copies | None = None,
) -> Embedded:
    """Write the embeddings of any number of images as Parquet shards, and go on where an earlier run stopped.

    Under ``torchrun`` each process writes its own shards; with the run's ``machines`` the workers of a Ray
    cluster do, and this process writes the plan and the manifest. Memory holds one shard and a few batches.

    Args:
        backbone: the bare backbone.
        images: a folder, a tar file, a table, an address that fsspec knows, or what
            :func:`ttr.datasets.places.opening.images_at` made of one.
        out: the folder; one that was begun with the same model, settings and images is gone on with.
        neurons: wrap the model with them; None: it is bare.
        settings: what is kept of each image.
        run: how; ``workers`` are processes, and its batch size decides rounding. With ``machines`` ``out``
            and the images are where all of these see them, and its ``device`` is theirs.
        anonymous: rows are called ``image 1``, ``image 2``, ... in the order of the listing.
        copies: where what is read at an address is kept for another run; None: nowhere.

    Raises:
        ImageError: the images cannot be listed, or one cannot be read with ``on_error="raise"``.
        OutputError: ``out`` was begun with something else, which is named, or cannot be written.
        TTRError: what is asked for cannot be had of this model.
    """
    backbone, settings, run, out = as_backbone(backbone), settings or EmbedSettings(), run or Run(), Path(out)
    run.check(backbone)
    if run.machines is not None:
        out = out.absolute()
    check_folder(out)
    if copies is not None:
        copies.ready()
    listing = images if isinstance(images, Listing) else images_at(images, copies=copies)
    arm = PLAIN
    if neurons is not None:
        neurons.check(backbone)
        arm = Arm("ttr", neurons, settings.num_registers, variant=settings.variant)
    naming = _Naming(listing, anonymous)
    rows = Rows.of(backbone, arm.neurons, settings)
    plan = plan_of(backbone, arm, listing, naming.all(), settings, run)
    begin(out, plan)
    _write_missing(Work(out, plan, arm, rows, run, copies), naming, Rank.of())
    return _ended(out, plan)


@dataclass(frozen=True)
class _Naming:
    """What rows are called: as the images are, or by their places."""

    listing: Listing
    anonymous: bool

    def all(self) -> Iterator[str]:
        return (self.of(place, place + 1)[0].name for place in range(len(self.listing)))

    def of(self, start: int, end: int) -> list[Named]:
        entries = enumerate(self.listing.entries(start, end), start + 1)
        return [Named(each, f"image {number}" if self.anonymous else each.name) for number, each in entries]


def _write_missing(work: Work, naming: _Naming, rank: Rank) -> None:
    """Write those of this process's shards that are not there, or have machines write them."""
    out, plan, run = work.out, work.plan, work.run
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
    with progress_bar("embedding", total, show=run.progress and rank.index == 0) as advance:
        write = work.write if run.machines is None else partial(write_on_machines, work)
        write(missing, naming.of, advance)


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


def _ended(out: Path, plan: Plan) -> Embedded:
    said = [said_of(out, shard, plan.digest) for shard in plan.shards]
    missing = said.count(None)
    if not missing and not is_of(out, plan):
        write_manifest(out, plan)
    errors = sum(each.errors for each in said if each is not None)
    return Embedded(out, plan.source.images, errors, len(said), missing)
