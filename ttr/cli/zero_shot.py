"""``ttr zero-shot``: class names against images, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.loading import load_with_neurons
from ttr.cli.tables import show_probabilities, show_skipped

IN_SIXTEENS = options.ReadingOptions(batch_size=16)


@grouped
def zero_shot(
    *,
    images: options.Images,
    frame: options.Frame = None,
    model: options.ModelOptions,
    classes: Annotated[str, typer.Option(metavar="A,B,...", help="Class names, separated by commas.")],
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt with {} where the name goes; repeat it for an ensemble; default: a photo of a {}.",
        ),
    ] = None,
    neurons: options.NeuronsFile = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the probabilities, as .json or .csv.", callback=given.out_file
        ),
    ] = None,
    num_registers: options.NumRegisters = 1,
    variant: options.VariantName = options.Variant.algorithm,
    reading: options.ReadingOptions = IN_SIXTEENS,
) -> None:
    """Score images against class names with a CLIP model, bare and with its registers moved.

    Each name is written into the templates and embedded by the text tower, which stays as it is; the
    probabilities are the softmax over the names (a sigmoid each for SigLIP). What changed is in the image
    tower alone. A probability among the names given is no diagnosis.

    \b
    Example:
      ttr zero-shot --backbone clip-vit-b-16 --pretrained \\
          --classes "normal chest radiograph,pneumonia" --template "a radiograph of {}." chest-1.png
    """
    from ttr.datasets.registry import given_images
    from ttr.studies.zero_shot import ZeroShotSettings, answers_of, check_out, write_answers

    check_out(out)
    settings = ZeroShotSettings(
        classes=tuple(name.strip() for name in classes.split(",")),
        num_registers=num_registers,
        variant=variant.value,
        **({"templates": tuple(template)} if template else {}),
    )
    chosen, run = given_images(images, frame=frame, anonymous=reading.anonymous), reading.run(model)
    found, backbone = load_with_neurons(neurons, model)
    if backbone.weights.origin == "random":
        typer.echo("The weights are random: these probabilities mean nothing.")
    answers = answers_of(backbone, found, chosen, settings, run)
    if out is not None:
        write_answers(answers, out)
    show_skipped(answers.skipped, named=True)
    show_probabilities(answers, out)
