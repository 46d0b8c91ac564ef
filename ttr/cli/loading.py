"""Load a backbone and its register neurons for a command, and say where they come from."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ttr.cli.options import ModelOptions

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.registers.neurons import RegisterNeurons


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Let no garbage be looked for while libraries are imported and a model is built.

    What they make stays, and going through it again and again is a seventh of a command's start.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_backbone(model: ModelOptions) -> Backbone:
    """Load the backbone and print which weights it has; standard error is left to refusals.

    Raises:
        TTRError: as ``ttr.load`` does.
    """
    with nothing_collected():
        backbone = load_silently(model)
    size = "x".join(map(str, backbone.image_size))
    typer.echo(f"backbone {backbone.name}, {size} px, weights: {backbone.weights}")
    for said in filter(None, (backbone.warning, backbone.beside_cls)):
        typer.echo(said)
    return backbone


def load_silently(model: ModelOptions) -> Backbone:
    """Load the backbone.

    Raises:
        TTRError: as ``ttr.load`` does.
    """
    import torch

    from ttr.backbones import load
    from ttr.run import check_dtype

    dtype = getattr(torch, check_dtype(model.dtype))
    return load(
        model.backbone,
        weights=model.weights,
        pretrained=model.pretrained,
        image_size=model.image_size,
        device=model.device,
        dtype=dtype,
    )


def load_with_neurons(file: Path | None, model: ModelOptions) -> tuple[RegisterNeurons, Backbone]:
    """Load neurons and backbone for each other; without an image size, at the one the neurons were found at.

    Raises:
        TTRError: as :func:`load_neurons`, :func:`load_backbone` and :func:`check_neurons` do.
    """
    from ttr.backbones.catalog import architecture

    neurons = load_neurons(file, model.backbone)
    source = neurons.provenance
    height, width = source.image_size or (None, None)
    same = architecture(source.backbone or "") == architecture(model.backbone)
    if model.image_size is None and height == width and same:
        model = replace(model, image_size=height)
    backbone = load_backbone(model)
    check_neurons(neurons, backbone)
    return neurons, backbone


def load_for_study(
    file: Path | None, model: ModelOptions, *, needed: bool = True
) -> tuple[RegisterNeurons | None, Backbone]:
    """Load a backbone and its neurons; None where none are needed, or where they are yet to be found.

    Raises:
        TTRError: as :func:`load_with_neurons` does.
    """
    from ttr.backbones.catalog import preset_for

    if needed and (file is not None or preset_for(model.backbone) is not None):
        return load_with_neurons(file, model)
    backbone = load_backbone(model)
    if needed:
        typer.echo("No --neurons given and no preset: finding them on training images.")
    return None, backbone


def load_neurons(file: Path | None, backbone: str) -> RegisterNeurons:
    """Read the register neurons from ``file``; without one, the published preset, and say so.

    Raises:
        NeuronsError: no such file, or none was named and there is no preset for the backbone of that name.
    """
    from ttr.backbones.catalog import preset_for
    from ttr.backbones.names import check_name
    from ttr.errors import NeuronsError
    from ttr.registers.neurons import RegisterNeurons

    check_name(backbone)
    if file is None:
        file = preset_for(backbone)
        if file is None:
            raise NeuronsError(
                f"no --neurons were given and there is no preset for {backbone}; find them with: ttr detect"
            )
        typer.echo(f"No --neurons given: using the published preset {file.name}; your own are better.")
    return RegisterNeurons.load(file)


def check_neurons(neurons: RegisterNeurons, backbone: Backbone) -> None:
    """Refuse neurons of another backbone, and warn of those that were found on other weights of this one."""
    neurons.check(backbone)
    if neurons.provenance.weights_hash not in (None, backbone.weights_hash):
        other = "on other weights than these"
        if str(backbone.dtype) != "torch.float32":
            other += ", or on these in another type"  # whose hash differs, too
        typer.echo(f"warning: the neurons were found {other}; detect again to be sure", err=True)
