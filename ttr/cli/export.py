"""``ttr export``: the wrapped backbone as one file that runs without ttr."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.loading import load_with_neurons


class Format(str, Enum):
    """Kinds of file."""

    onnx = "onnx"
    pt2 = "pt2"


@grouped
def export(
    *,
    backbone: options.BackboneName,
    weights: options.TypedOptions,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="File to write, ending in .onnx or .pt2 like the format.",
            callback=given.out_file,
        ),
    ],
    format: Annotated[
        Format, typer.Option(help="Which file: onnx for ONNX Runtime, pt2 for torch.export.load.")
    ] = Format.onnx,
    neurons: options.NeuronsFile = None,
    num_registers: options.NumRegisters = 1,
    variant: options.VariantName = options.Variant.algorithm,
    pooling: options.PoolingName = options.Pooling.own,
    quiet: options.Quiet = False,
) -> None:
    """Write the backbone with its registers moved to one file that runs without ttr.

    The file takes images [B, 3, H, W], normalised and in the model's type, for any B at one image size, and
    gives the global feature ("embedding", [B, D]), behind which the model's own head fits, and the patch
    tokens behind the final norm ("patches", [B, P, D]). It is read again and compared with the model at batch
    sizes 1 and 3; above a difference of 1e-3 (8 roundings of a coarser type) nothing is written. Neurons,
    weights, preprocessing and versions travel in the file. ONNX needs the extra [onnx],
    takes float32 alone and holds models up to 1.5 GiB; pt2 has no such limit.

    \b
    Example:
      ttr export --backbone dinov2-vit-l-14 --pretrained --image-size 224 --neurons neurons.json \\
          --format onnx --out dinov2-l-registers.onnx
    """
    from ttr.studies.export.place import check_place

    check_place(out, format.value)
    from ttr.cli.tables import show_export
    from ttr.studies.export.write import export as write

    found, model = load_with_neurons(neurons, weights.of(backbone))
    settings: dict[str, Any] = {
        "num_registers": num_registers,
        "variant": variant.value,
        "pooling": pooling.value,
        "progress": not quiet,
    }
    show_export(write(model, found, out, format=format.value, **settings))
