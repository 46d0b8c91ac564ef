"""``ttr reproduce``: published studies again, their numbers beside measured ones, a command a study.

The published numbers are data (``ttr/published_results.json``), the experiments are in ``apps/``. Published
and measured never share a column, and what cannot be measured keeps its row and says why.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import options
from ttr.cli.bench import CacheFolder, default_cache
from ttr.cli.loading import load_backbone
from ttr.cli.tables import print_path, show_reproduction

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone

reproduce = typer.Typer(
    help="Published studies again: their numbers beside measured ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@reproduce.callback()
def _group() -> None:
    """Published studies again: their numbers beside measured ones."""


@reproduce.command()
def medical(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; an earlier result is replaced.")],
    roots: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR,...",
            help="Where orthonet, pacemaker and aptos lie: orthonet=DIR,aptos=DIR, or the option repeated.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE,...",
            help="Weights of dinov2-vit-l-14 and clip-vit-b-16 on this machine, written like --roots.",
        ),
    ] = None,
    pretrained: options.Pretrained = False,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A rehearsal: measure this one in place of both, such as phantom. The published numbers "
            "are then of other models.",
        ),
    ] = None,
    num_registers: Annotated[
        int | None, typer.Option(min=1, help="Test-time registers; default: 4, as published.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the probe and of all else.")] = 42,
    on_error: Annotated[
        str, typer.Option(metavar="raise|skip", help="Whether a bad image ends its cells, or is recorded.")
    ] = "raise",
    cache: CacheFolder = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and decode ahead.")] = 2,
    batch_size: options.BatchSize = 32,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Kukade and Bansal 2025: DINOv2-L and CLIP-B on OrthoNet, Pacemaker and APTOS, six cells.

    For each cell, neurons are found on training images with the published settings, and the published probe
    is trained on the bare model (plain), with blank tokens (token, which the study calls its baseline) and
    with the registers moved (ttr). Writes a benchmark folder a cell, reproduction.csv and manifest.json.

    Sets and weights that are not there are named, and their cells keep their published numbers. The exit
    status is 0 if all six cells were measured, 1 if some are missing, 2 if not one could be.

    \b
    Example:
      ttr reproduce medical --roots orthonet=~/orthonet,pacemaker=~/pacemaker,aptos=~/aptos2019 \\
          --pretrained --device cuda --out medical/
    """
    from ttr.apps.reproduce_medical import STUDY, check_names, reasons, reproduce_medical
    from ttr.errors import ModelError, OptionError
    from ttr.published_results import studies

    study = studies()[STUDY]
    known = study.named("backbone")
    files = parse_places("--weights", weights)
    check_names("--weights", files, known)
    if backbone is not None and files:
        raise OptionError("got --weights with --backbone; a rehearsal takes random weights or --pretrained")

    def load(name: str) -> Backbone:
        if backbone is not None:
            return load_backbone(backbone, None, pretrained, None, device)
        if name not in files and not pretrained:
            raise ModelError(f"no weights were given for it: --pretrained, or --weights {name}=FILE")
        size = study.settings["image_size"]
        return load_backbone(name, files.get(name), name not in files, size, device)

    table = reproduce_medical(
        parse_places("--roots", roots),
        load,
        out,
        cache or default_cache(),
        published_detection=backbone is None,
        num_registers=num_registers,
        seed=seed,
        on_error=on_error,
        batch_size=batch_size,
        workers=workers,
        progress=not quiet,
    )
    show_reproduction(table, study, backbone)
    missing = reasons(table)
    for reason in missing:
        typer.echo(f"missing: {reason}")
    print_path(out / "reproduction.csv")
    if missing:
        raise typer.Exit(1)


@reproduce.command()
def decoupling(
    dataset: options.DatasetName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; an earlier result is replaced.")],
    root: options.DatasetRoot = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE,...",
            help="Weights of the study's models on this machine: dinov2-vit-s-14-reg4=FILE,...",
        ),
    ] = None,
    pretrained: options.Pretrained = False,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A rehearsal: measure this one in place of the eight; may be given several times.",
        ),
    ] = None,
    num_images: Annotated[int, typer.Option(min=4, help="Test images to measure on.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and the intervals.")] = 42,
    batch_size: options.BatchSize = 8,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Lappe and Giese 2025: is CLS made of the patches? DINOv2 from S to g, with and without registers.

    Each model's last block is split into patches, registers, CLS itself and the skip connection; cosine and
    CKA say how much of the image's feature each makes. Any labelled set will do (the study used COCO and
    ImageNet). Writes an integration a model (as ttr integrate), reproduction.csv and manifest.json.

    Models whose weights are not there are named. The exit status is 0 if all were measured, 1 if some are
    missing, 2 if not one could be.

    \b
    Example:
      ttr reproduce decoupling --dataset folder --root images/ --pretrained --device cuda --out decoupling/
    """
    from ttr.apps.reproduce_decoupling import STUDY, reproduce_decoupling
    from ttr.apps.reproduce_medical import check_names
    from ttr.datasets.registry import open_dataset
    from ttr.errors import ModelError, OptionError
    from ttr.published_results import studies

    study = studies()[STUDY]
    files = parse_places("--weights", weights)
    check_names("--weights", files, study.settings["backbones"])
    if backbone and files:
        raise OptionError("got --weights with --backbone; a rehearsal takes random weights or --pretrained")
    data = open_dataset(dataset, root)

    def load(name: str) -> Backbone:
        if backbone:
            return load_backbone(name, None, pretrained, None, device)
        if name not in files and not pretrained:
            raise ModelError(f"no weights were given for it: --pretrained, or --weights {name}=FILE")
        size = study.settings["image_size"]
        return load_backbone(name, files.get(name), name not in files, size, device)

    table = reproduce_decoupling(
        load,
        data,
        out,
        backbones=backbone or None,
        num_images=num_images,
        seed=seed,
        batch_size=batch_size,
        progress=not quiet,
    )
    show_reproduction(table, study, ", ".join(backbone) if backbone else None)
    missing = table[table.missing != ""].drop_duplicates("backbone")
    for row in missing.itertuples():
        typer.echo(f"missing: {row.backbone}: {row.missing}")
    print_path(out / "reproduction.csv")
    if len(missing):
        raise typer.Exit(1)


def parse_places(option: str, given: list[str] | None) -> dict[str, Path]:
    """Turn ``["a=DIR,b=DIR", "c=DIR"]`` into {name: path}; a comma belongs to a path unless NAME= follows.

    Raises:
        OptionError: a part is no NAME=PATH, or a name stands twice.
    """
    from ttr.errors import OptionError

    places: dict[str, Path] = {}
    for part in (part for text in given or () for part in re.split(r",(?=[\w-]+=)", text)):
        name, _, path = part.partition("=")
        name = name.strip()
        if not name or not path.strip():
            raise OptionError(f"{option} {part!r}: needed NAME=PATH, several with commas or the option again")
        if name in places:
            raise OptionError(f"{option} names {name} twice: {places[name]} and {path.strip()}")
        places[name] = Path(path.strip()).expanduser()
    return places
