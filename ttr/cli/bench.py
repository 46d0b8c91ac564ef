"""``ttr bench``: linear heads on a labelled set, every arm on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import options
from ttr.cli.loading import load_backbone, load_with_neurons, nothing_collected
from ttr.cli.tables import show_bench


def bench(
    backbone: options.BackboneName,
    dataset: options.DatasetName,
    out: options.OutFolder,
    root: options.DatasetRoot = None,
    neurons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Register neurons; default: a preset, else found on training images."
        ),
    ] = None,
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Of plain, token, neurons, ttr, random, random-neurons, attention-bias.",
        ),
    ] = "plain,token,neurons,ttr,random",
    num_registers: Annotated[
        str, typer.Option(metavar="LIST", help="Such as 1, or 1,4, or 1..20, or classes (as many as these).")
    ] = "1",
    heads: Annotated[str, typer.Option(metavar="LIST", help="Of linear, logistic.")] = "linear,logistic",
    features: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Classify from: embedding, cls, patches, registers, test_time, or several joined by +.",
        ),
    ] = "embedding",
    seeds: Annotated[str, typer.Option(metavar="LIST", help="Seeds of the linear probe.")] = "42..44",
    draws: Annotated[int, typer.Option(min=1, help="Draws of the random arms.")] = 3,
    preprocess: Annotated[
        str, typer.Option(metavar="LIST", help="Before the backbone's own: fundus-crop, ben-graham, clahe.")
    ] = "",
    on_error: options.OnError = "raise",
    cache: options.CacheFolder = None,
    workers: options.Workers = 2,
    batch_size: options.BatchSize = 32,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Benchmark linear heads on a labelled set: does moving the registers help, harm, or change nothing?

    Writes results.csv (every metric with its interval), comparisons.csv (every pair of arms, tested on the
    same images), predictions.parquet, the heads, index.html and manifest.json. Features are cached by the
    content of everything that decides them, so a run that was interrupted goes on where it stopped.

    \b
    Example:
      ttr bench --dataset phantom --backbone phantom --out bench/
      ttr bench --dataset aptos --root ~/aptos --backbone dinov2-vit-l-14 --pretrained --image-size 224 \\
          --preprocess fundus-crop --num-registers 1,classes --out bench-aptos/
    """
    with nothing_collected():
        from ttr.backbones.catalog import preset_for
        from ttr.datasets.registry import open_dataset
        from ttr.forward.preprocessing import parse_steps
        from ttr.studies.bench.write import write_bench

    data = open_dataset(dataset, root)
    counts = options.parse_numbers(
        "--num-registers", num_registers.replace("classes", str(len(data.classes)))
    )
    numbers = options.parse_numbers("--seeds", seeds)
    if neurons is not None or preset_for(backbone) is not None:
        found, model = load_with_neurons(neurons, backbone, weights, pretrained, image_size, device)
    else:
        found, model = None, load_backbone(backbone, weights, pretrained, image_size, device)
        typer.echo("no --neurons given and no preset: finding them on training images")
    result = write_bench(
        model,
        data,
        found,
        out,
        cache or options.default_cache(),
        arm_names=options.parse_list(arms),
        num_registers=counts,
        heads=options.parse_list(heads),
        features=options.parse_list(features),
        seeds=numbers,
        draws=draws,
        steps=parse_steps(preprocess),
        batch_size=batch_size,
        on_error=on_error,
        workers=workers,
        progress=not quiet,
    )
    show_bench(result.comparisons, result.benchmark.skipped, out / "index.html")
