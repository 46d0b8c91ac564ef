"""``ttr tune``: how many neurons, up to which block, and how many registers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import check_neurons, load_backbone
from ttr.cli.tables import show_skipped, show_tuning

if TYPE_CHECKING:
    from ttr.studies.tune.settings import TuningSettings

IN_EIGHTS = options.StudyOptions(batch_size=8)


@dataclass(frozen=True, kw_only=True)
class TuningOptions(Group):
    """What a tuning sweeps over."""

    top_k: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Numbers of neurons, such as 1,5,10 or 5..15; default: 1, 2, 5, 10, ... up to 100, and "
            "around what the data-driven cut keeps.",
        ),
    ] = None
    top_layer: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Last blocks whose neurons are taken; default: where outliers emerge, two below, two above.",
        ),
    ] = None
    num_registers: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of registers of the second sweep.")
    ] = "0..5,10,20"
    tolerance: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Outliers have vanished when at most this share of them remains."),
    ] = 0.05
    threshold: options.Threshold = None
    outlier_layer: options.OutlierLayer = None
    variant: options.VariantName = options.Variant.algorithm

    def settings(self) -> TuningSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.tune.settings import TuningSettings

        return TuningSettings(
            top_k=_numbers("--top-k", self.top_k),
            top_layers=_numbers("--top-layer", self.top_layer),
            num_registers=tuple(options.parse_numbers("--num-registers", self.num_registers)),
            tolerance=self.tolerance,
            threshold=given.parse_threshold(self.threshold),
            outlier_layer=self.outlier_layer,
            variant=self.variant.value,
        )


@grouped
def tune(
    *,
    model: options.ModelOptions,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of images, searched below it too.")],
    out: options.OutFolder,
    neurons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A ranking made by ttr detect on other images; default: found on half of these.",
            callback=given.neurons,
        ),
    ] = None,
    measured: TuningOptions,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at a random sample of so many images.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample, the split and the intervals.")] = 42,
    reading: options.StudyOptions = IN_EIGHTS,
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
    from ttr.datasets.registry import folder_images

    settings = measured.settings()
    run = reading.run(model, seed=seed)
    chosen = folder_images(images, limit=limit, seed=seed, anonymous=reading.anonymous)
    from ttr.registers.neurons import RegisterNeurons
    from ttr.studies.tune.write import write_tuning

    found = None if neurons is None else RegisterNeurons.load(neurons)
    backbone = load_backbone(model)
    if found:
        check_neurons(found, backbone)
    tuning = write_tuning(backbone, chosen, out, found, settings, run)
    for note in tuning.notes:
        typer.echo(note)
    show_skipped(tuning.skipped)
    show_tuning(tuning.advice, tuning.rows, out / "index.html")


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(options.parse_numbers(option, text))
