"""``ttr compare``: images before and after, as a page and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.loading import load_with_neurons
from ttr.cli.tables import show_comparison


def compare(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ],
    backbone: options.BackboneName,
    out: options.OutFolder,
    neurons: options.NeuronsFile = None,
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    num_registers: options.NumRegisters = 1,
    threshold: options.Threshold = None,
    outlier_layer: options.OutlierLayer = None,
    batch_size: options.BatchSize = 8,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Compare images through the bare backbone and through the one with its registers moved.

    Writes a folder with index.html (self-contained, opens offline), compare.json (one entry an image) and
    manifest.json. Outliers count above the same norm before and after.

    \b
    Example:
      ttr compare --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --neurons neurons.json --out comparison/ chest-1.png chest-2.png
    """
    from ttr.datasets.registry import OpenedImages, list_images
    from ttr.studies.compare.write import write_comparison

    paths = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    found, model = load_with_neurons(neurons, backbone, weights, pretrained, image_size, device)
    comparisons = write_comparison(
        model,
        found,
        OpenedImages(paths),
        [str(path) for path in paths],
        out,
        num_registers=num_registers,
        threshold=None if threshold is None else options.parse_threshold(threshold),
        outlier_layer=outlier_layer,
        batch_size=batch_size,
        progress=not quiet,
    )
    show_comparison(comparisons, out / "index.html")
