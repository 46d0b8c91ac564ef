"""``ttr compare``: images before and after, as a page and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.loading import load_backbone, warn_of_other_weights
from ttr.cli.tables import show_comparison


def compare(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ],
    backbone: options.BackboneName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; an earlier result is replaced.")],
    neurons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Register neurons, made by ttr detect; default: a published preset."
        ),
    ] = None,
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    num_registers: Annotated[int, typer.Option(min=0, help="Test-time registers to append.")] = 1,
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
    from ttr.apps.compare import write_comparison
    from ttr.datasets.registry import OpenedImages, list_images
    from ttr.neurons import RegisterNeurons

    paths = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    neurons = neurons or _preset(backbone)
    found = RegisterNeurons.load(neurons)
    model = load_backbone(backbone, weights, pretrained, image_size, device)
    found.check(model)
    warn_of_other_weights(neurons, found, model)
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


def _preset(backbone: str) -> Path:
    """Return the published preset for a backbone and say that it is one, or refuse."""
    from ttr.catalog import preset_for
    from ttr.errors import NeuronsError

    preset = preset_for(backbone)
    if preset is None:
        raise NeuronsError(
            f"no --neurons were given and there is no preset for {backbone}; find them with: ttr detect"
        )
    typer.echo(f"no --neurons given: using the published preset {preset.name}; your own are better")
    return preset
