"""``ttr reproduce medical``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.checks import MOST_REGISTERS
from ttr.cli import options
from ttr.cli.groups import Group, grouped
from ttr.cli.published_tables import show_metrics, show_reproduction
from ttr.cli.reproduce.ending import finish
from ttr.cli.study_models import InPlace, StudyModels, parse_places

if TYPE_CHECKING:
    from ttr.studies.reproduce.medical_settings import MedicalSettings


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
            help="Images of these whose maps are shown at every block; default: 3, none with --anonymous.",
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
    backbone: InPlace = None,
    measured: MedicalOptions,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the probe and of all else.")] = 42,
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
    finish(reasons(table), out, "index.html")
