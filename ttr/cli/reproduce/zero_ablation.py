"""``ttr reproduce zero-ablation``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import Group, grouped
from ttr.cli.published_tables import show_model_tests, show_reproduction
from ttr.cli.reproduce.ending import finish
from ttr.cli.study_models import InPlace, StudyModels

if TYPE_CHECKING:
    from ttr.datasets.registry import Dataset

OwnSet = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Measure this task on a set of its own; default: on --dataset, as every task.",
        callback=given.dataset,
    ),
]
OwnRoot = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Where that set lies.", callback=given.root)
]


@dataclass(frozen=True, kw_only=True)
class SetsOptions(Group):
    """Sets of single tasks, in place of the one for all."""

    segmentation_dataset: OwnSet = None
    segmentation_root: OwnRoot = None
    correspondence_dataset: OwnSet = None
    correspondence_root: OwnRoot = None

    fit: Annotated[
        str,
        typer.Option(
            metavar="crop|pad|resize",
            help="Images of --pairs and --segmentation-dataset: as the model crops them, whole with bars "
            "(which count for nothing), or whole and stretched.",
        ),
    ] = "crop"

    def open(self, *, anonymous: bool) -> dict[str, Dataset]:
        """Return {task: its own set}; ``anonymous``: images and groups are numbered.

        Raises:
            DataError: a set is not there, or not laid out as it must be.
            OptionError: where a set lies, and not which, or no such fit.
        """
        from ttr.backbones.fit import FITS
        from ttr.errors import OptionError

        if self.fit not in FITS:
            raise OptionError(f"--fit {self.fit!r}; needed {', '.join(FITS)}")

        found = {}
        for task in ("segmentation", "correspondence"):
            name, root = getattr(self, f"{task}_dataset"), getattr(self, f"{task}_root")
            if name is not None:
                found[task] = options.DataOptions(dataset=name, root=root).open(anonymous=anonymous)
            elif root is not None:
                raise OptionError(f"--{task}-root {root} without its set; add --{task}-dataset NAME")
        return found


@grouped
def zero_ablation(
    *,
    data: options.DataOptions,
    out: options.OutFolder,
    annotated: options.PairsOptions,
    apart: SetsOptions,
    models: StudyModels,
    backbone: InPlace = None,
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Training images that mean and noise are taken from.")
    ] = 5000,
    analysis_images: Annotated[
        int, typer.Option(min=1, help="Test images for attention and geometry.")
    ] = 200,
    seed: options.DrawSeed = 42,
    reading: options.ShuffledOptions,
) -> None:
    """Parodi et al. 2026: registers zeroed, and replaced by plausible values, in DINOv2 and DINOv3, S and B.

    Zeroing breaks every task, plausible values of other images none: what counts is that registers are there.
    Any labelled set will do; segmentation needs masks (the study used ImageNet, VOC-like masks and SPair).
    Writes an ablation a model (as ttr ablate), reproduction.csv, between.csv (its permutation tests of one
    model against another), flow.csv (what Parodi and Segado 2026 print, who replace at the last
    block alone) and manifest.json.

    Weights, tasks and tokens that are not there are named. The exit status is 0 if all published numbers have
    a measured one beside them, 1 if some are missing, 2 if nothing could be measured.

    \b
    Example:
      ttr reproduce zero-ablation --dataset folder --root imagenet/ --segmentation-dataset voc \\
          --segmentation-root VOC2012/ --pairs SPair-71k/ --pretrained --device cuda --out zero/
      ttr reproduce zero-ablation --backbone phantom-reg4 --dataset phantom --out rehearsal/
    """
    from ttr.studies.ablate.settings import AblationSettings
    from ttr.studies.reproduce.flow import STUDY as FLOW
    from ttr.studies.reproduce.published import published_studies
    from ttr.studies.reproduce.zero_ablation import STUDY, reasons, reproduce_zero_ablation

    study = published_studies()[STUDY]
    run = reading.run(models, seed=seed)
    load = models.loader(study, study.named("backbone"), rehearsal=backbone is not None)
    settings = AblationSettings(calibration_images=calibration_images, analysis_images=analysis_images)
    labelled = data.open(anonymous=reading.anonymous)
    pairs = annotated.read(seed, anonymous=reading.anonymous)
    sets = apart.open(anonymous=reading.anonymous)
    found = reproduce_zero_ablation(
        load, labelled, out, settings, run, instead=backbone, pairs=pairs, sets=sets, fit=apart.fit
    )
    show_reproduction(found.table, study, backbone)
    # A rehearsal is of one model, which need not have the blocks and registers that the second study names.
    if backbone is None:
        show_reproduction(found.flow, published_studies()[FLOW])
        show_model_tests(found.between)
    finish(reasons(found.table, *([] if backbone else [found.flow])), out)
