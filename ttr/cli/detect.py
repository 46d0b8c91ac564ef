"""``ttr detect``: find the register neurons of a backbone over a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.loading import load_backbone
from ttr.cli.tables import show_neurons


def detect(
    backbone: options.BackboneName,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of images, searched below it too.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the register neurons (JSON).")],
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    threshold: options.Threshold = "auto",
    outlier_layer: options.OutlierLayer = -2,
    top_layer: Annotated[
        int | None, typer.Option(help="Last block whose neurons may be kept; default: where outliers emerge.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="How many neurons to keep; default: a data-driven cut.")
    ] = None,
    sparsity: Annotated[bool, typer.Option(help="Only neurons quiet on half of the tokens.")] = True,
    include_cls: Annotated[bool, typer.Option(help="Let CLS count as an outlier.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at a random sample of so many images.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that sample.")] = 42,
    batch_size: options.BatchSize = 16,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Find the register neurons of a backbone: the MLP neurons that fire at its outlier patches.

    Reads patch norms at a late block, calls the patches far above the rest outliers, and ranks every neuron
    by its mean absolute activation there. The file holds the kept neurons, the whole ranking, and what it was
    made with. No outliers is an answer: the file is then empty and says so.

    \b
    Example:
      ttr detect --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --threshold 150 --top-layer 17 --top-k 45 --images radiographs/ --out neurons.json
    """
    from ttr.datasets.registry import OpenedImages, list_images
    from ttr.detection import detect as detect_neurons

    paths = list_images(images, limit=limit, seed=seed)
    model = load_backbone(backbone, weights, pretrained, image_size, device)
    neurons = detect_neurons(
        model,
        OpenedImages(paths),
        threshold=options.parse_threshold("auto" if threshold is None else threshold),  # type: ignore[arg-type]
        outlier_layer=-2 if outlier_layer is None else outlier_layer,
        top_layer=top_layer,
        top_k=top_k,
        sparsity=sparsity,
        include_cls=include_cls,
        batch_size=batch_size,
        progress=not quiet,
    )
    neurons.save(out)
    show_neurons(neurons, out)
