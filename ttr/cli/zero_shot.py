"""``ttr zero-shot``: class names against images, before and after."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.loading import load_with_neurons
from ttr.cli.tables import show_probabilities, show_skipped

if TYPE_CHECKING:
    from torch import Tensor

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
    from ttr.datasets.registry import ReadAhead, given_images
    from ttr.errors import OptionError
    from ttr.evaluate.zero_shot import TEMPLATES
    from ttr.evaluate.zero_shot import zero_shot as score
    from ttr.files import write_json, write_text
    from ttr.registers.wrap import TestTimeRegisters
    from ttr.studies.provenance import provenance

    if out is not None and out.suffix not in (".json", ".csv"):
        raise OptionError(f"--out {out}; needed a name ending in .json or .csv")
    names = [name.strip() for name in classes.split(",")]
    images_read = ReadAhead(
        given_images(images, frame=frame, anonymous=reading.anonymous), reading.run(model)
    )
    found, backbone = load_with_neurons(neurons, model)
    if backbone.weights.origin == "random":
        typer.echo("the weights are random: these probabilities mean nothing")
    settings: dict[str, Any] = {
        "templates": template or list(TEMPLATES),
        "batch_size": reading.batch_size,
    }
    wrapped: dict[str, Any] = {"num_registers": num_registers, "variant": variant.value}
    before = score(backbone, images_read, names, progress=not reading.quiet, **settings)
    with TestTimeRegisters(backbone, found, **wrapped):
        after = score(backbone, images_read, names, progress=not reading.quiet, **settings)
    read = images_read.names
    if out is not None and out.suffix == ".csv":
        write_text(out, _csv(read, names, before, after))
    elif out is not None:
        rows = zip(read, before.tolist(), after.tolist(), strict=True)
        result = {
            "schema": "ttr.zero-shot/1",
            "classes": names,
            "images": [{"image": image, "before": b, "after": a} for image, b, a in rows],
            "neurons": found.pairs,
            "provenance": provenance(backbone, **wrapped, **settings),
        }
        skipped = images_read.skipped
        write_json(out, result | ({"skipped": skipped} if skipped else {}))
    show_skipped(images_read.skipped, named=True)
    show_probabilities(read, names, before, after, out)


def _csv(images: list[str], names: list[str], before: Tensor, after: Tensor) -> str:
    """Return one line an image and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", "before", "after"])
    for image, *rows in zip(images, before.tolist(), after.tolist(), strict=True):
        writer.writerows([image, *row] for row in zip(names, *rows, strict=True))
    return text.getvalue()
