"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="phantom, phantom-reg4, phantom-clip, a name listed by ttr backbones, "
        "timm:ARCHITECTURE[.TAG] or open_clip:ARCHITECTURE[/TAG].",
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="Weights of that architecture: .safetensors, .pt or .pth."
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Use the library's published weights (fetched or cached).")
]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", metavar="PX", help="Side of the input; default: the model's own."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images a pass.")]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold", metavar="NORM", help="Norm of an outlier: a number, auto (robust), or mean+3sd."
    ),
]
OutlierLayer = Annotated[
    int | None,
    typer.Option("--outlier-layer", help="Block at whose output outliers are read; negative: from the last."),
]
DatasetRoot = Annotated[
    Path | None,
    typer.Option(
        "--root", metavar="PATH", help="Where that set lies: its folder, or the table of a csv set."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def parse_threshold(value: str) -> float | str:
    """Turn a number into one; leave a rule's name for the library to check."""
    try:
        return float(value)
    except ValueError:
        return value
