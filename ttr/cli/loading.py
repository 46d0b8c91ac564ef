"""Load a backbone for a command, and say which weights it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone


def load_backbone(
    name: str, weights: Path | None, pretrained: bool, image_size: int | None, device: str
) -> Backbone:
    """Load the backbone and print which weights it has; standard error is left to refusals.

    Raises:
        TTRError: as ``ttr.load`` does.
    """
    from ttr.backbones import load

    backbone = load(name, weights=weights, pretrained=pretrained, image_size=image_size, device=device)
    size = "x".join(map(str, backbone.image_size))
    typer.echo(f"backbone {backbone.name}, {size} px, weights: {backbone.weights}")
    if backbone.warning:
        typer.echo(backbone.warning)
    return backbone
