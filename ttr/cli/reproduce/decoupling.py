"""``ttr reproduce decoupling``."""

from __future__ import annotations

from typing import Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.published_tables import show_reproduction
from ttr.cli.reproduce.ending import finish
from ttr.cli.study_models import StudyModels

IN_EIGHTS = options.StudyOptions(batch_size=8)


@grouped
def decoupling(
    *,
    data: options.DataOptions,
    out: options.OutFolder,
    models: StudyModels,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A rehearsal: measure this one in place of the eight; may be given several times.",
            callback=given.backbones,
        ),
    ] = None,
    num_images: Annotated[int, typer.Option(min=4, help="Test images to measure on.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and the intervals.")] = 42,
    reading: options.StudyOptions = IN_EIGHTS,
) -> None:
    """Lappe and Giese 2025: is CLS made of the patches? DINOv2 from S to g, with and without registers.

    Each model's last block is split into patches, registers, CLS itself and the skip connection; cosine and
    CKA say how much of the image's feature each makes. Any labelled set will do (the study used COCO and
    ImageNet). Writes an integration a model (as ttr integrate), reproduction.csv, index.html with the study's
    figures across the models, and manifest.json.

    Models whose weights are not there are named. The exit status is 0 if all were measured, 1 if some are
    missing, 2 if not one could be.

    \b
    Example:
      ttr reproduce decoupling --dataset folder --root images/ --pretrained --device cuda --out decoupling/
    """
    from ttr.studies.reproduce.decoupling import STUDY, reproduce_decoupling
    from ttr.studies.reproduce.published import published_studies

    study = published_studies()[STUDY]
    load = models.loader(study, study.settings["backbones"], rehearsal=bool(backbone))
    run = reading.run(models, seed=seed)
    labelled = data.open(anonymous=reading.anonymous)
    table = reproduce_decoupling(load, labelled, out, run, backbones=backbone or None, num_images=num_images)
    show_reproduction(table, study, ", ".join(backbone) if backbone else None)
    missing = table[table.missing != ""].drop_duplicates("backbone")
    finish([f"{row.backbone}: {row.missing}" for row in missing.itertuples()], out, "index.html")
