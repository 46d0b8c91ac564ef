"""``ttr embed``: any number of images to Parquet shards, in one process or several, to be gone on with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.engine import EngineOptions
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_backbone, load_with_neurons
from ttr.cli.tables import print_path

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.datasets.places.copies import Copies
    from ttr.datasets.places.listing import Listing
    from ttr.registers.neurons import RegisterNeurons
    from ttr.studies.embed.settings import EmbedSettings
    from ttr.studies.embed.write import Embedded


@dataclass(frozen=True, kw_only=True)
class AheadOptions(options.ReadingOptions):
    """How images are read by processes, named and run."""

    workers: Annotated[int, typer.Option(min=1, help="Processes that read and decode ahead.")] = 2


@dataclass(frozen=True, kw_only=True)
class PlaceOfImages(Group):
    """Where images lie."""

    images: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="A folder (its tar files stand for the images in them), a tar file, a table of paths (CSV "
            "or Parquet), or an address that fsspec knows, such as s3://bucket/images.",
        ),
    ]
    path_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of paths in a table; default: one with a usual name."),
    ] = None
    root: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Folder or address that a table's paths are below; default: the table's folder.",
        ),
    ] = None
    copies: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep copies of what is read at an address here, for the next run; default: none are kept.",
        ),
    ] = None
    copies_gb: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="GB", help="How many gigabytes of them, 10 unless given."),
    ] = None

    def listing(self, copies: Copies | None) -> Listing:
        """Return the images that lie there, once what must be said of them is said.

        Raises:
            TTRError: as ``images_at`` does.
        """
        from ttr.datasets.places.opening import images_at

        found = images_at(self.images, column=self.path_column, root=self.root, copies=copies)
        for note in found.notes:
            typer.echo(note)
        return found

    def kept_copies(self) -> Copies | None:
        """Return where copies are kept, if anywhere.

        Raises:
            OptionError: of images that lie on this machine, or a size of no copies.
            OutputError: the folder cannot be made.
        """
        from ttr.datasets.places.copies import MOST, Copies
        from ttr.datasets.places.remote import is_address
        from ttr.errors import OptionError

        if self.copies is None:
            if self.copies_gb is not None:
                raise OptionError(f"got --copies-gb {self.copies_gb:g} without --copies; name their folder")
            return None
        if not is_address(self.root or self.images):
            raise OptionError(f"got --copies with {self.images}, which is read where it lies; leave it out")
        copies = Copies(
            self.copies.absolute(), MOST if self.copies_gb is None else round(self.copies_gb * 1e9)
        )
        copies.ready()
        return copies


@dataclass(frozen=True, kw_only=True)
class WrapOptions(Group):
    """Whether the model is wrapped, and how."""

    neurons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Wrap the model with these register neurons; default: it is bare.",
            callback=given.neurons,
        ),
    ] = None
    num_registers: options.NumRegisters = 1
    variant: options.VariantName = options.Variant.algorithm

    def __post_init__(self) -> None:
        """Raise OptionError where registers are asked for, and nothing that is to be moved onto them."""
        from ttr.errors import OptionError

        if self.neurons is None and self.num_registers != 1:
            raise OptionError(
                f"got --num-registers {self.num_registers} without --neurons; the bare model has none: name "
                "the neurons that are to be moved onto them, or leave it out"
            )

    def load(self, model: options.ModelOptions) -> tuple[RegisterNeurons | None, Backbone]:
        """Return the neurons, None where the model stays bare, and the model."""
        if self.neurons is None:
            return None, load_backbone(model)
        return load_with_neurons(self.neurons, model)


@dataclass(frozen=True, kw_only=True)
class KeptOptions(Group):
    """What is kept of each image."""

    pooling: options.PoolingName = options.Pooling.own
    outlier_share: Annotated[
        bool, typer.Option("--outlier-share", help="Also the share of outlier patches, of the map as it is.")
    ] = False
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness", help="Also how far the attention map can be trusted, -1..1.")
    ] = False
    patch_tokens: Annotated[
        bool, typer.Option("--patch-tokens", help="Also the patch tokens, in a safetensors file a shard.")
    ] = False
    threshold: options.Threshold = None
    outlier_layer: options.OutlierLayer = None
    storage: Annotated[
        str, typer.Option(metavar="TYPE", help="In which type numbers are written: float32 or float16.")
    ] = "float32"
    shard_size: Annotated[int, typer.Option(min=1, help="Images a shard; one shard stands in memory.")] = 1024

    def settings(self, wrap: WrapOptions) -> EmbedSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.embed.settings import EmbedSettings

        kept = {**vars(self), "pooling": self.pooling.value}
        return EmbedSettings(
            num_registers=wrap.num_registers,
            variant=wrap.variant.value,
            **{**kept, "threshold": given.parse_threshold(self.threshold)},
        )


def _verify(folder: Path | None) -> None:
    """Say whether a folder is whole, and end: with 1 where it is not."""
    if folder is None:
        return
    from ttr.studies.embed.manifest import verify_embeddings
    from ttr.wording import counted

    found = verify_embeddings(folder)
    for fault in found.faults:
        typer.echo(f"off: {fault}")
    if found.faults:
        raise typer.Exit(1)
    typer.echo(
        f"whole: {counted(found.images, 'image')} listed, each with one row, {found.errors:,} of them with a "
        f"reason instead of an embedding; {counted(found.shards, 'shard')} as written"
    )
    raise typer.Exit


@grouped
def embed(
    *,
    model: options.ModelOptions,
    place: PlaceOfImages,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder of shards; one that was begun is gone on with.",
            callback=given.shards_folder,
        ),
    ],
    wrap: WrapOptions,
    kept: KeptOptions,
    reading: AheadOptions,
    engine: EngineOptions,
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            is_eager=True,
            callback=_verify,
            help="Prove that a folder of shards is whole, and do nothing else.",
        ),
    ] = None,
) -> None:
    """Embed any number of images: Parquet shards, one row an image, bare or wrapped.

    A shard is whole or absent. The same command goes on where an earlier one was killed, and ends with the
    same bytes; another model, setting or set of images is refused with what differs. Under torchrun each
    process writes its own shards, and --device cuda is the GPU of each; with --engine ray the machines of a
    Ray cluster write them, each worker on a GPU of its own. manifest.json comes last: it proves that every
    image listed has exactly one row. With --on-error skip a bad image has a reason instead of an embedding;
    to try it again, remove its shard.

    \b
    Columns of shard-00000-of-00010.parquet and so on:
      image           path below the folder, or the tar file's name and the member's
      embedding       a list of fixed length
      outlier_share   share of outlier patches, 0..1 (if asked)
      faithfulness    of the attention map, -1..1 (if asked)
      error           why there is no embedding; empty otherwise
    shard-00000-of-00010.patches.safetensors holds patches [rows, P, D] (if asked).

    \b
    Example:
      ttr embed --backbone dinov2-vit-l-14 --pretrained --image-size 224 --images radiographs/ --out shards/
      torchrun --nproc-per-node 8 -m ttr embed --backbone dinov2-vit-l-14 --pretrained --device cuda \\
          --dtype bf16 --neurons neurons.json --images s3://bucket/tars --out shards/
      ttr embed --backbone dinov2-vit-l-14 --pretrained --device cuda --images s3://bucket/tars \\
          --out /shared/shards --engine ray --address 10.0.0.1:6379
      ttr embed --verify shards/
    """
    from ttr.ranks import Rank

    settings = kept.settings(wrap)
    model = replace(model, device=Rank.of().device(model.device))
    run = replace(reading.run(model), machines=engine.machines())
    copies = place.kept_copies()
    listing = place.listing(copies)
    neurons, backbone = wrap.load(engine.sent(model))
    from ttr.studies.embed.write import embed_images

    done = embed_images(
        backbone,
        listing,
        out,
        neurons=neurons,
        settings=settings,
        run=run,
        anonymous=reading.anonymous,
        copies=copies,
    )
    _say(done)


def _say(done: Embedded) -> None:
    from ttr.wording import counted

    if done.missing:
        missing = (
            f"{done.missing:,} of {counted(done.shards, 'shard')} {'is' if done.missing == 1 else 'are'}"
        )
        typer.echo(f"This process's shards are whole; {missing} still to come from other processes.")
    else:
        without = f", {done.errors:,} of them with a reason instead of an embedding" if done.errors else ""
        typer.echo(
            f"{counted(done.images, 'image')} embedded in {counted(done.shards, 'shard')}{without}; "
            "manifest.json proves that each has one row"
        )
    print_path(done.out)
