"""Load a backbone for a command, and say which weights it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.neurons import RegisterNeurons


def load_backbone(
    name: str, weights: Path | None, pretrained: bool, image_size: int | None, device: str
) -> Backbone:
    """Load the backbone and print which weights it has; standard error is left to refusals.

    Raises:
        TTRError: as ``ttr.load`` does; OptionError for a device that this machine lacks.
    """
    import torch

    from ttr.backbones import load
    from ttr.errors import OptionError

    try:
        torch.empty(0, device=device)
        usable = torch.device(device).type != "meta"
    except (RuntimeError, AssertionError):
        usable = False
    if not usable:
        raise OptionError(f"device {device!r} cannot be used on this machine; choose --device cpu")
    backbone = load(name, weights=weights, pretrained=pretrained, image_size=image_size, device=device)
    size = "x".join(map(str, backbone.image_size))
    typer.echo(f"backbone {backbone.name}, {size} px, weights: {backbone.weights}")
    if backbone.warning:
        typer.echo(backbone.warning)
    return backbone


def warn_of_other_weights(path: Path, neurons: RegisterNeurons, backbone: Backbone) -> None:
    """Say on standard error when the neurons of a file were found on other weights than these."""
    if neurons.provenance.weights_hash not in (None, backbone.weights_hash):
        typer.echo(
            f"warning: {path} was found on other weights than these; detect again to be sure", err=True
        )
