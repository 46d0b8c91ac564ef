"""``ttr plant``: artifacts in a pretrained model, whose own maps are then the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.loading import load_backbone
from ttr.cli.tables import print_path, show_planted


@grouped
def plant(
    *,
    model: options.ModelOptions,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Where to write what is planted (safetensors).", callback=given.out_file
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of about a hundred images, some with a flat background; default: photographs that "
            "installed packages ship, and crops of them.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Neurons that are rewritten to make them.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    quiet: options.Quiet = False,
) -> None:
    """Plant artifacts in a pretrained model: its own maps, without them, are the truth.

    Searches a trigger (flat corners), a direction that CLS attends to and that changes nothing else, and the
    neurons that the model uses least; a few minutes for a small model at 224 px. The file is written only if
    the artifacts hold their bounds: they wreck the maps, leave images without a trigger alone, and one
    test-time register brings map and embedding back. phantom-dinov2 was made so.

    \b
    Example:
      ttr plant --backbone dinov2-vit-s-14 --pretrained --image-size 224 --out phantom-dinov2.safetensors
    """
    from ttr.datasets.registry import folder_images
    from ttr.studies.plant.images import fitting_images, told
    from ttr.studies.plant.settings import PlantingSettings
    from ttr.wording import counted

    settings = PlantingSettings(count=count, seed=seed)
    if images is None:
        chosen, said = list(fitting_images()), told()
    else:
        folder = folder_images(images)
        chosen, said = list(folder), f"{counted(len(folder), 'image')} of a folder"
    from ttr.studies.plant.write import write_artifacts

    backbone = load_backbone(model)
    planted = write_artifacts(backbone, chosen, out, image_set=said, settings=settings, progress=not quiet)
    show_planted(planted.truth)
    print_path(out)
