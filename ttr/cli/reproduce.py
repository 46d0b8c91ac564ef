"""``ttr reproduce``: published studies again, their numbers beside measured ones, a command a study.

The published numbers are data (``published_results.json``), the experiments are in ``ttr/studies/reproduce``.
Published and measured never share a column, and what cannot be measured keeps its row and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.checks import MOST_REGISTERS
from ttr.cli import given, options
from ttr.cli.commands import Commands
from ttr.cli.groups import Group, grouped
from ttr.cli.published_tables import show_metrics, show_model_tests, show_reproduction
from ttr.cli.study_models import StudyModels, parse_places
from ttr.cli.tables import print_path

if TYPE_CHECKING:
    from ttr.datasets.registry import Dataset
    from ttr.studies.reproduce.medical_settings import MedicalSettings

IN_EIGHTS = options.StudyOptions(batch_size=8)


@dataclass(frozen=True, kw_only=True)
class SetsOptions(Group):
    """Sets of single tasks, in place of the one for all."""

    segmentation_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Measure segmentation on this set instead; default: on --dataset, as every task.",
            callback=given.dataset,
        ),
    ] = None
    segmentation_root: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where that set lies.", callback=given.root)
    ] = None
    correspondence_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Measure correspondence on this set's images instead.",
            callback=given.dataset,
        ),
    ] = None
    correspondence_root: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where that set lies.", callback=given.root)
    ] = None

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


reproduce = Commands(
    help="Published studies again: their numbers beside measured ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@reproduce.callback()
def _group() -> None:
    """Published studies again: their numbers beside measured ones."""


class Protocol(str, Enum):
    """How the medical study is done."""

    published = "published"
    ours = "ours"
    both = "both"


class Source(str, Enum):
    """Whose settings are taken where text and scripts differ."""

    text = "text"
    scripts = "scripts"


class TopLayer(str, Enum):
    """Which blocks may have register neurons."""

    up_to = "up-to"
    alone = "alone"


@dataclass(frozen=True, kw_only=True)
class MedicalOptions(Group):
    """What the medical study measures."""

    protocol: Annotated[
        Protocol,
        typer.Option(
            help="published: images stretched to the model's square, CLS may be an outlier. ours: the "
            "backbone's own resize and crop, patches alone. Published numbers stand beside the former."
        ),
    ] = Protocol.both
    source: Annotated[
        Source,
        typer.Option(help="Where the study's text and scripts differ: text has R = 4, scripts R = 1."),
    ] = Source.text
    top_layer: Annotated[
        TopLayer,
        typer.Option(
            help="Published protocol: neurons of all blocks up to the top layer (DINOv2-L 19, CLIP-B 5), "
            "or of it alone."
        ),
    ] = TopLayer.up_to
    num_registers: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_REGISTERS, help="Test-time registers; default: as the source has it."),
    ] = None
    figure_images: Annotated[int, typer.Option(min=1, help="Test images that figures are means over.")] = 100
    maps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of them, shown with their maps at every block; default: 3, none with --anonymous.",
        ),
    ] = None
    sweep: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Beyond the study: top-1 with other numbers of registers, such as 0..20; 0 zeroes alone.",
        ),
    ] = ""
    registers_as_classes: Annotated[
        bool, typer.Option("--registers-as-classes", help="Beyond the study: as many registers as classes.")
    ] = False
    from_registers: Annotated[
        bool,
        typer.Option("--from-registers", help="Beyond the study: heads on registers, alone and with CLS."),
    ] = False

    def settings(self, *, rehearsal: bool) -> MedicalSettings:
        """Return them; in a rehearsal, whose layers are others, neurons are found by the default rule.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.reproduce.medical_further import Further
        from ttr.studies.reproduce.medical_settings import PROTOCOLS, MedicalSettings

        sweep = options.parse_numbers("--sweep", self.sweep) if self.sweep else ()
        asked = PROTOCOLS if self.protocol is Protocol.both else (self.protocol.value,)
        return MedicalSettings(
            protocols=asked,
            source=self.source.value,
            top_layer=self.top_layer.value,
            num_registers=self.num_registers,
            published_detection=not rehearsal,
            figure_images=self.figure_images,
            maps=self.maps,
            further=Further(tuple(sweep), self.registers_as_classes, self.from_registers),
        )


@reproduce.command()
@grouped
def medical(
    *,
    out: options.OutFolder,
    roots: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR,...",
            help="Where orthonet, pacemaker and aptos lie: orthonet=DIR,aptos=DIR, or the option repeated.",
        ),
    ] = None,
    models: StudyModels,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A rehearsal: measure this one in place of both, such as phantom. The published numbers "
            "are then of other models.",
            callback=given.backbone,
        ),
    ] = None,
    measured: MedicalOptions,
    seed: Annotated[int, typer.Option(min=0, help="Of the probe and of all else.")] = 42,
    reading: options.StudyOptions,
) -> None:
    """Kukade and Bansal 2025: DINOv2-L and CLIP-B on OrthoNet, Pacemaker and APTOS, six cells.

    For each cell and protocol, neurons are found on training images with the published settings, and the
    published probe is trained on the bare model (plain), with blank tokens (token, which the study calls its
    baseline) and with the registers moved (ttr). Writes a benchmark folder a cell and protocol, index.html
    with the study's figures 1 to 9 of each (their curves in by_block.csv), reproduction.csv, a table of each
    further question, and manifest.json. docs/methods.md says what is followed of the study.

    Sets and weights that are not there are named, and their cells keep their published numbers. The exit
    status is 0 if all six cells were measured, 1 if some are missing, 2 if not one could be.

    \b
    Example:
      ttr reproduce medical --roots orthonet=~/orthonet,pacemaker=~/pacemaker,aptos=~/aptos2019 \\
          --pretrained --device cuda --out medical/
    """
    from ttr.studies.reproduce.medical import STUDY, reasons, reproduce_medical
    from ttr.studies.reproduce.published import published_studies

    study = published_studies()[STUDY]
    load = models.loader(study, study.named("backbone"), rehearsal=backbone is not None)
    table = reproduce_medical(
        parse_places("--roots", roots),
        lambda name: load(backbone or name),
        out,
        measured.settings(rehearsal=backbone is not None),
        reading.run(models, seed=seed),
        anonymous=reading.anonymous,
    )
    shown = table.assign(backbone=table.backbone + ", protocol " + table.protocol)
    show_reproduction(shown[shown.metric == study.metric], study, backbone)
    show_metrics(shown)
    _finish(reasons(table), out, "index.html")


@reproduce.command()
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
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and the intervals.")] = 42,
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
    _finish([f"{row.backbone}: {row.missing}" for row in missing.itertuples()], out, "index.html")


@reproduce.command("zero-ablation")
@grouped
def zero_ablation(
    *,
    data: options.DataOptions,
    out: options.OutFolder,
    annotated: options.PairsOptions,
    apart: SetsOptions,
    models: StudyModels,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A rehearsal: measure this one in place of the six, such as phantom-reg4. The published "
            "numbers are then of other models.",
            callback=given.backbone,
        ),
    ] = None,
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
    _finish(reasons(found.table, *([] if backbone else [found.flow])), out)


def _finish(missing: list[str], out: Path, file: str = "reproduction.csv") -> None:
    """Name what is missing and the file to open; the exit status is 1 if anything is."""
    for reason in missing:
        typer.echo(f"missing: {reason}")
    print_path(out / file)
    if missing:
        raise typer.Exit(1)
