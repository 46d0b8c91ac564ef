"""``ttr integrate``: what the image's feature is made of, and whether the map tells the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_for_study
from ttr.cli.tables import show_integration, show_skipped

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.registers.neurons import RegisterNeurons
    from ttr.studies.integrate.settings import IntegrationSettings

IN_EIGHTS = options.StudyOptions(batch_size=8)


@dataclass(frozen=True, kw_only=True)
class IntegrationOptions(Group):
    """What an integration measures."""

    blocks: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Where CLS is restricted: last, or such as 3,11, or 0..11, -2..-1."
        ),
    ] = "last"
    num_registers: Annotated[
        str, typer.Option(metavar="LIST", help="Test-time registers; 0 is the bare model.")
    ] = "0..4"
    variant: options.VariantName = options.Variant.algorithm
    renormalise: Annotated[
        bool, typer.Option("--renormalise", help="Divide the kept attention weights by their sum.")
    ] = False
    keep_skip: Annotated[
        bool, typer.Option("--keep-skip", help="Leave the skip connection beside every part.")
    ] = False
    num_images: Annotated[
        int, typer.Option(min=4, help="Test images to measure on, and training images for heads.")
    ] = 500

    def settings(self) -> IntegrationSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.integrate.settings import IntegrationSettings

        return IntegrationSettings(
            blocks=tuple(options.parse_numbers("--blocks", self.blocks.replace("last", "-1"))),
            num_registers=tuple(options.parse_numbers("--num-registers", self.num_registers)),
            variant=self.variant.value,
            renormalise=self.renormalise,
            keep_skip=self.keep_skip,
            num_images=self.num_images,
        )


@grouped
def integrate(
    *,
    backbone: Annotated[
        list[str],
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="A model, named as in ttr bench; several times, to compare models, for instance by size.",
            callback=given.backbones,
        ),
    ],
    weights: options.PlacedOptions,
    data: options.DataOptions,
    out: options.OutFolder,
    neurons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Register neurons of the one backbone; default: a preset, else found.",
            callback=given.neurons,
        ),
    ] = None,
    measured: IntegrationOptions,
    seed: Annotated[int, typer.Option(min=0, help="Seed of samples, draws and intervals.")] = 42,
    reading: options.StudyOptions = IN_EIGHTS,
) -> None:
    """Is the map faithful? Make the image's feature of the patches alone, of registers, of CLS, of the skip.

    Test images of a labelled set run bare and with test-time registers. In each chosen block CLS is made of
    one part alone (attention weights of everything else set to zero) and sent through the rest of the model;
    cosine and linear CKA say how much of the image's feature that part makes. At an earlier block the later
    blocks run again for each part, so --blocks 0..11 takes many times as long as the last block alone.

    Writes integration.csv, changes.csv (registers against the bare model, tested image by image),
    accuracy.csv (one-shot and probe accuracy of each part), oneshot.csv (one-shot top-1 and top-5 of one test
    image a class), layers.csv (CLS of each block against the last), registers.csv (the strongest register
    across images, before and after the norm), dimensions.csv (its largest dimensions), shares.csv (each
    image's attention to patches and registers), index.html and manifest.json.

    \b
    Columns of integration.csv:
      backbone, block, num_registers, part    patches, registers, cls or skip
      cka, ci_low, ci_high                    linear CKA with the model's own feature, 95 % interval
      cosine, cosine_low, cosine_high         mean cosine with it, as published
      attention_share                         attention of CLS to the part (empty for skip)
      share_without_cls, ..._low, ..._high    the same of patches and registers alone: they add up to one
      norm, norm_low, norm_high               length of its contribution to CLS in the block
      attended_cka, attended_cosine           as cka and cosine, of what attention alone gives CLS
      cka_debiased                            CKA without the bias of few images
      centred, centred_low, centred_high      cosine less the means; of the patches: the map's faithfulness
      null, own, agreement, deletion          what the faithfulness is weighed with (docs/methods.md)
      images, dimensions, parameters          how many

    \b
    Example:
      ttr integrate --backbone phantom-registers --dataset phantom --num-images 60 --out integration/
      ttr integrate --backbone dinov2-vit-s-14-reg4 --backbone dinov2-vit-l-14-reg4 --pretrained \\
          --image-size 224 --dataset aptos --root ~/aptos --out sizes/
    """
    from ttr.errors import OptionError

    settings = measured.settings()
    run = reading.run(weights, seed=seed)
    if len(backbone) > 1 and (weights.weights or neurons):
        raise OptionError(
            "got --weights or --neurons with several backbones; they belong to one: run each by itself and "
            "put the integration.csv files one behind another"
        )
    labelled = data.open(anonymous=reading.anonymous)
    from ttr.studies.integrate.write import write_integration

    def load(name: str) -> tuple[Backbone, RegisterNeurons | None]:
        found, model = load_for_study(neurons, weights.of(name), needed=any(settings.counts))
        return model, found

    result = write_integration(backbone, load, labelled, out, settings, run)
    for note in result.notes:
        typer.echo(note)
    show_skipped(result.skipped)
    show_integration(result.tables["integration"], result.tables["changes"], out / "index.html")
