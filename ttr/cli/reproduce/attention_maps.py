"""``ttr reproduce attention-maps``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.checks import MOST_REGISTERS
from ttr.cli import given, options
from ttr.cli.groups import Group, grouped
from ttr.cli.published_tables import show_maps
from ttr.cli.reproduce.ending import finish
from ttr.cli.study_models import InPlace, StudyModels, parse_places
from ttr.wording import sentence

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.datasets.registry import Dataset
    from ttr.studies.localize.settings import LocalisationSettings
    from ttr.studies.reproduce.published import PublishedStudy

#: As many as an attribution runs at once by itself: gradients take memory.
IN_SIXTEENS = options.StudyOptions(batch_size=16)


@dataclass(frozen=True, kw_only=True)
class MapsOptions(Group):
    """What the study measures."""

    arms: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Arms: plain, the study's, and token, neurons, ttr, random, random-neurons, attention-bias.",
        ),
    ] = "plain,ttr"
    head: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Whose class is asked for: linear or logistic, a head that is trained on the bare model's "
            "features; own, that of a checkpoint which was fine-tuned on the set.",
        ),
    ] = "logistic"
    num_registers: Annotated[
        int, typer.Option(min=1, max=MOST_REGISTERS, help="Test-time registers of the arms with tokens.")
    ] = 1
    num_images: Annotated[
        int | None, typer.Option(min=2, help="Test images, and validation images, at most; default: all.")
    ] = None

    def settings(self) -> LocalisationSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.localize.settings import LocalisationSettings

        arms = tuple(options.parse_list(self.arms))
        return LocalisationSettings(
            arms=arms, head=self.head, num_registers=self.num_registers, num_images=self.num_images
        )


@dataclass(frozen=True, kw_only=True)
class MapSetsOptions(Group):
    """The study's sets, or one in their place."""

    roots: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TABLE,...",
            help="Tables of cp-child, duke, kvasir and mura with the columns path, label, split, mask or "
            "box, and patient (ttr data info csv): kvasir=FILE,..., or the option repeated.",
        ),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A rehearsal: measure on this set in place of the four, such as phantom-lesions.",
            callback=given.dataset,
        ),
    ] = None
    root: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where that set lies.", callback=given.root)
    ] = None

    def open(self, study: PublishedStudy, *, anonymous: bool) -> dict[str, Dataset | str]:
        """Return {name: the set, or why it is not there}; ``anonymous``: images and groups are numbered.

        Raises:
            DataError: the set in their place is not there, or not laid out as it must be.
            OptionError: a root of no set of the study, or both kinds of set.
        """
        from ttr.errors import OptionError
        from ttr.studies.reproduce.attention_maps import open_sets
        from ttr.studies.reproduce.medical import check_names

        roots, known = parse_places("--roots", self.roots), tuple(study.settings["sets"])
        check_names("--roots", roots, known)
        if self.dataset is None:
            if self.root is not None:
                raise OptionError(f"--root {self.root} without its set; add --dataset NAME, or give --roots")
            return open_sets(known, roots, anonymous=anonymous)
        if roots:
            raise OptionError("got --roots with --dataset; a rehearsal is on one set, the study on its own")
        data = options.DataOptions(dataset=self.dataset, root=self.root)
        return {self.dataset: data.open(anonymous=anonymous)}


@grouped
def attention_maps(
    *,
    out: options.OutFolder,
    sets: MapSetsOptions,
    models: StudyModels,
    backbone: InPlace = None,
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The study's numbers as you read them, a table with the columns model, set, method, metric "
            "and value in per cent; they are shown, and nothing is computed with them.",
        ),
    ] = None,
    measured: MapsOptions,
    seed: options.DrawSeed = 42,
    reading: options.StudyOptions = IN_SIXTEENS,
) -> None:
    """Chung et al. 2025: attention maps, GradCAM and Chefer's method against experts' outlines.

    Four initialisations of a ViT-B/16 (random, supervised, dino, mae) on four sets (cp-child, duke, kvasir,
    mura). Each pair is a localisation (as ttr localize) with the study's pointing game and IoU beside ours,
    bare and with registers moved. The study's tables are not at hand: its numbers are open slots until
    --published gives them. Its order of methods is tested image by image. docs/methods.md says what is
    followed of the study: by default a linear head on the model as it is given, not a fine-tuned one.

    Weights are given by model, MODEL=FILE, or by model and set, MODEL-SET=FILE: its authors fine-tuned each
    model on each set. --pretrained fetches those of supervised, dino and mae.

    Writes a localisation a model and set, reproduction.csv, order.csv, index.html and manifest.json. Sets and
    weights that are not there are named. The exit status is 0 if all cells were measured, 1 if some are
    missing, 2 if not one could be.

    \b
    Example:
      ttr reproduce attention-maps --roots kvasir=kvasir.csv,mura=mura.csv --pretrained --out maps/
      ttr reproduce attention-maps --backbone phantom --dataset phantom-lesions --out rehearsal/
    """
    from ttr.studies.reproduce.attention_maps import STUDY, reasons, reproduce_attention_maps
    from ttr.studies.reproduce.attention_maps_page import counted_order, in_place
    from ttr.studies.reproduce.published import published_studies

    study = published_studies()[STUDY]
    settings, run = measured.settings(), reading.run(models, seed=seed)
    numbers = _transcribed(study, published, rehearsal=bool(backbone or sets.dataset))
    load = _loader(study, models, backbone)
    opened = sets.open(study, anonymous=reading.anonymous)
    names = [backbone] if backbone else list(study.settings["models"])
    tables = reproduce_attention_maps(load, names, opened, out, settings, run, published=numbers)
    table = tables["reproduction"]
    show_maps(table, study, in_place(study, table) or None)
    for line in counted_order(tables["order"]):
        typer.echo(sentence(line))
    finish(reasons(table), out, "index.html")


def _loader(
    study: PublishedStudy, models: StudyModels, instead: str | None
) -> Callable[[str, str], Backbone]:
    """Return what loads a model of the study for a set: with the set's own weights, else with the model's."""
    from ttr.errors import ModelError

    slots: dict[str, str] = study.settings["models"]
    own = {f"{model}-{name}": behind for model, behind in slots.items() for name in study.settings["sets"]}
    load = models.loader(study, [*slots, *own], rehearsal=instead is not None, stand_for=slots | own)
    files = parse_places("--weights", models.weights)

    def of(model: str, name: str) -> Backbone:
        place = f"{model}-{name}" if f"{model}-{name}" in files else model
        if place in study.settings["from_scratch"] and place not in files:
            raise ModelError(
                "it was trained from scratch on each set, so that there are no weights to fetch; give "
                f"--weights {place}=FILE, or {place}-SET=FILE"
            )
        return load(place)

    return of


def _transcribed(
    study: PublishedStudy, file: Path | None, *, rehearsal: bool
) -> dict[tuple[str, ...], float]:
    """Return the numbers that a reader of the study typed, none without a file."""
    from ttr.errors import OptionError
    from ttr.studies.reproduce.transcribed import read_transcribed

    if file is None:
        return {}
    if rehearsal:
        raise OptionError("got --published with --backbone or --dataset; a rehearsal has no published cell")
    known = {key: tuple(study.settings[f"{key}s"]) for key in study.keys}
    return read_transcribed(file, known)
