"""``ttr compare``: images before and after, as a page and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.loading import load_with_neurons
from ttr.cli.tables import show_comparison, show_skipped

IN_EIGHTS = options.ReadingOptions(batch_size=8)


@grouped
def compare(
    *,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ],
    frame: options.Frame = None,
    model: options.ModelOptions,
    out: options.OutFolder,
    neurons: options.NeuronsFile = None,
    num_registers: options.NumRegisters = 1,
    variant: options.VariantName = options.Variant.algorithm,
    threshold: options.Threshold = None,
    outlier_layer: options.OutlierLayer = None,
    reading: options.ReadingOptions = IN_EIGHTS,
) -> None:
    """Compare images through the bare backbone and through the one with its registers moved.

    Writes a folder with index.html (self-contained, opens offline), compare.json (one entry an image) and
    manifest.json. Outliers count above the same norm before and after.

    \b
    Example:
      ttr compare --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --neurons neurons.json --out comparison/ chest-1.png chest-2.png
    """
    from ttr.datasets.registry import given_images
    from ttr.studies.compare.settings import ComparisonSettings

    chosen = given_images(images, frame=frame, anonymous=reading.anonymous)
    settings = ComparisonSettings(
        num_registers, given.parse_threshold(threshold), outlier_layer, variant=variant.value
    )
    run = reading.run(model)
    from ttr.studies.compare.write import write_comparison

    found, backbone = load_with_neurons(neurons, model)
    compared = write_comparison(backbone, found, chosen, out, settings, run)
    show_skipped(compared.skipped)
    show_comparison(compared.images, out / "index.html")
