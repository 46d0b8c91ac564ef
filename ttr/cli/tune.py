"""``ttr tune``: how many neurons, up to which block, and how many registers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.loading import check_neurons, load_backbone
from ttr.cli.tables import show_tuning


def tune(
    backbone: options.BackboneName,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of images, searched below it too.")],
    out: options.OutFolder,
    neurons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A ranking made by ttr detect on other images; default: found on half of these.",
        ),
    ] = None,
    top_k: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Numbers of neurons, such as 1,5,10 or 5..15; default: 1, 2, 5, 10, ... up to 100, and "
            "around what the data-driven cut keeps.",
        ),
    ] = None,
    top_layer: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Last blocks whose neurons are taken; default: where outliers emerge, two below, two above.",
        ),
    ] = None,
    num_registers: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of registers of the second sweep.")
    ] = "0..5,10,20",
    tolerance: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Outliers have vanished when at most this share of them remains."),
    ] = 0.05,
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    threshold: options.Threshold = None,
    outlier_layer: options.OutlierLayer = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at a random sample of so many images.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample, the split and the intervals.")] = 42,
    batch_size: options.BatchSize = 8,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Choose how many register neurons to move, up to which block, and see what more registers change.

    Finds neurons on half of the images and measures on the other half, once for every number of neurons and
    top layer, until the outlier patches have vanished; then once for every number of registers. Writes
    index.html (curves, self-contained), tune.json, tune.csv and neurons.json, the recommended set: the
    fewest neurons, then the lowest top layer, that leave at most --tolerance of the outliers. A batch makes
    one pass for every setting, so start with --limit 100 on a large model.

    \b
    Columns of tune.csv (empty where they do not apply):
      sweep              bare, neurons, or registers
      top_layer, top_k   the setting; neurons: how many there were
      num_registers      test-time registers
      outlier_share      outlier patches over all patches, with _low and _high, its 95 % interval over images
      remaining          outlier_share over the bare model's, with its interval
      max_patch_norm     largest patch norm at the outlier layer, mean over images
      register_attention CLS attention held by registers, last block
      cosine             of the embedding with that at one register, with its interval

    \b
    Example:
      ttr tune --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --images radiographs/ --limit 100 --out tuning/
    """
    from ttr.datasets.registry import list_images
    from ttr.registers.neurons import RegisterNeurons
    from ttr.studies.tune.write import write_tuning

    registers = options.parse_numbers("--num-registers", num_registers)
    ks = None if top_k is None else options.parse_numbers("--top-k", top_k)
    blocks = None if top_layer is None else options.parse_numbers("--top-layer", top_layer)
    paths = list_images(images, limit=limit, seed=seed)
    found = None if neurons is None else RegisterNeurons.load(neurons)
    model = load_backbone(backbone, weights, pretrained, image_size, device)
    if found:
        check_neurons(found, model)
    tuning = write_tuning(
        model,
        paths,
        out,
        neurons=found,
        top_k=ks,
        top_layers=blocks,
        num_registers=registers,
        tolerance=tolerance,
        threshold=None if threshold is None else options.parse_threshold(threshold),  # type: ignore[arg-type]
        outlier_layer=outlier_layer,
        batch_size=batch_size,
        seed=seed,
        progress=not quiet,
    )
    for note in tuning.notes:
        typer.echo(note)
    show_tuning(tuning.advice, tuning.rows, out / "index.html")
