"""``ttr scan``: which models have outlier patches, where, and what is to be done about them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.chosen import SourceOptions
from ttr.cli.groups import grouped
from ttr.cli.loading import load_backbone
from ttr.cli.tables import show_scan, show_skipped

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone

IN_SIXTEENS = options.ReadingOptions(batch_size=16)


@grouped
def scan(
    *,
    backbone: Annotated[
        list[str],
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="Models, named as in ttr detect; several with commas, or the option again.",
            callback=given.listed_backbones,
        ),
    ],
    weights: options.PlacedOptions,
    out: options.OutFolder,
    source: SourceOptions,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Sides of the input, such as 224,448: multiples of the patch; default: the model's own.",
        ),
    ] = None,
    threshold: options.Threshold = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at a random sample of so many images.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 42,
    reading: options.ReadingOptions = IN_SIXTEENS,
) -> None:
    """Which models have artifacts, at which blocks and resolutions, and which remedy does each need?

    One pass of the images through each bare model at each size. At every block, not only at late ones, the
    share of patches whose norm is an outlier (--threshold, taken image by image), with a 95 % interval over
    the images. The remedy is one of: TTR; outliers left in a register-trained model; outliers that vanish
    before the last block; registers already there; none needed; cannot be said: too few images.

    Writes scan.csv, models.csv, index.html (self-contained) and manifest.json.

    \b
    Columns of scan.csv, a row a model, size and block:
      model, size, block               size: side of the input in pixels
      outlier_share, ci_low, ci_high   outlier patches over all patches, mean over the images, 0..1
      median_norm, max_norm            of an image's patches, mean over the images
      n, n_with                        images, and those that have an outlier patch
      state                            dirty, clean, or open: the images are too few to say
    \b
    Columns of models.csv, a row a model and size:
      model, size, registers           trained registers
      artifact_score, ci_low, ci_high  length that outliers hold beyond the median, of that of all patches
      first_block, last_block          with outliers; empty without
      n, state, remedy

    \b
    Example:
      ttr scan --backbone dinov2-vit-s-14,dinov2-vit-l-14,dinov2-vit-l-14-reg4 --pretrained \\
          --sizes 224,518 --images radiographs/ --limit 200 --out scan/
      ttr scan --backbone phantom,phantom-reg4 --dataset phantom --limit 40 --out scan/
    """
    from ttr.errors import OptionError
    from ttr.studies.scan.settings import ScanSettings

    if len(backbone) > 1 and weights.weights:
        raise OptionError("got --weights with several backbones; they belong to one: scan each by itself")
    if sizes is not None and weights.image_size is not None:
        raise OptionError("got --image-size and --sizes; give one of them")
    settings = ScanSettings(
        sizes=() if sizes is None else tuple(options.parse_numbers("--sizes", sizes)),
        threshold=given.parse_threshold(threshold) or "auto",
    )
    run = reading.run(weights, seed=seed)
    chosen = source.choose(limit, seed, anonymous=reading.anonymous)
    models = {name: weights.of(name) for name in backbone}
    from ttr.studies.scan.write import write_scan

    def load(name: str, size: int | None) -> Backbone:
        model = models[name]
        return load_backbone(model if size is None else replace(model, image_size=size))

    result = write_scan(backbone, load, chosen, out, settings, run)
    show_skipped(result.skipped)
    show_scan(result, out / "index.html")
