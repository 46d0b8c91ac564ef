"""``ttr localize``: maps against masks or boxes, every arm and method on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.checks import MOST_REGISTERS
from ttr.cli import options
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_for_study, nothing_collected
from ttr.cli.tables import show_localisation

if TYPE_CHECKING:
    from ttr.studies.localize.settings import LocalisationSettings

#: As many as an attribution runs at once by itself: gradients take memory.
IN_SIXTEENS = options.StudyOptions(batch_size=16)


@dataclass(frozen=True, kw_only=True)
class LocalisationOptions(Group):
    """What a localisation measures."""

    arms: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Arms: plain, token, neurons, ttr, random, random-neurons, attention-bias.",
        ),
    ] = "plain,token,ttr,random"
    methods: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Methods: attention, value-attention, rollout; of a class: gradient-rollout, chefer, "
            "legrad, gradcam, input-gradient, perturbation (slow).",
        ),
    ] = "attention,chefer"
    head: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Whose class (the image's label) a method is asked for: linear or logistic, a head that is "
            "trained on the bare model's features; own, the model's classifier; text, of a CLIP model.",
        ),
    ] = "logistic"
    prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="Text of --head text, {} where the class's name goes.")
    ] = "{}"
    num_registers: Annotated[
        int, typer.Option(min=1, max=MOST_REGISTERS, help="Test-time registers of the arms with tokens.")
    ] = 1
    draws: Annotated[int, typer.Option(min=1, help="Draws of the random arms.")] = 3
    num_images: Annotated[
        int | None, typer.Option(min=2, help="Test images, and validation images, at most; default: all.")
    ] = None
    curves: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Insertion and deletion as well (curves.csv), with patches blanked by zero, blur or road "
            "(filled in from their neighbours): 22 passes a map each, slow.",
        ),
    ] = ""
    sanity: Annotated[
        bool,
        typer.Option(
            "--sanity",
            help="Whether maps change when blocks forget what they learned (sanity.csv, complexity.csv): a "
            "pass a block.",
        ),
    ] = False
    discovery: Annotated[
        bool,
        typer.Option(
            "--discovery",
            help="Whether the box that LOST finds without labels holds an object (discovery.csv).",
        ),
    ] = False
    margin: options.Margin = 1.0
    variant: options.VariantName = options.Variant.algorithm

    def settings(self) -> LocalisationSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.localize.settings import LocalisationSettings

        return LocalisationSettings(
            arms=tuple(options.parse_list(self.arms)),
            methods=tuple(options.parse_list(self.methods)),
            head=self.head,
            num_registers=self.num_registers,
            draws=self.draws,
            num_images=self.num_images,
            prompt=self.prompt,
            curves=tuple(options.parse_list(self.curves)),
            sanity=self.sanity,
            discovery=self.discovery,
            margin=options.points(self.margin),
            variant=self.variant.value,
        )


@grouped
def localize(
    *,
    model: options.ModelOptions,
    data: options.DataOptions,
    out: options.OutFolder,
    neurons: options.NeuronsOrFound = None,
    measured: LocalisationOptions,
    seed: options.DrawSeed = 42,
    reading: options.StudyOptions = IN_SIXTEENS,
) -> None:
    """Is the map right? Hold maps against masks or boxes: bare, with blank tokens, with registers moved.

    Test images of a set that has masks or boxes (ttr data info), or of a csv table with a column mask or box.
    Of a mask of several classes the image's own counts. Beside the arms stand a random and a centred map.

    Writes localisation.csv, localisation_sizes.csv (by thirds of the outlines' sizes),
    localisation_pairs.csv (differences between arms, and from the two baselines, tested image by image),
    images.csv, with --curves curves.csv, with --sanity sanity.csv and complexity.csv, with --discovery
    discovery.csv and discovery_pairs.csv, index.html (the best, the worst and the most changed images) and
    manifest.json. It runs in one process.

    \b
    Columns of localisation.csv:
      arm, method        random-map and centre-map, method baseline: maps that no model made
      metric             pointing_game, relevance_mass, relevance_rank, auprc, iou_otsu, iou_best_threshold;
                         with --curves zero: insertion_zero (larger is better), deletion_zero (smaller is
                         better), and so on
      value              mean over the images, 0 to 1
      ci_low, ci_high    95 % over images, or groups
      n, baseline        images; what a random map scores

    \b
    Example:
      ttr localize --backbone phantom --dataset phantom-lesions --out localisation/
      ttr localize --backbone dinov2-vit-l-14 --pretrained --image-size 518 --dataset csv \\
          --root boxes.csv --methods attention,gradient-rollout,chefer --out localisation/
    """
    from ttr.datasets.registry import Outlines, require_classes
    from ttr.ranks import Rank

    Rank.of().check_alone("ttr localize")
    settings = measured.settings()
    run = reading.run(model, seed=seed)

    labelled = data.open(anonymous=reading.anonymous)
    Outlines.of(labelled).required("test")
    if settings.asks_for_classes:
        require_classes(labelled)
    with nothing_collected():
        from ttr.studies.localize.write import WITHOUT_NEURONS, write_localisation

    needed = not set(settings.arms) <= WITHOUT_NEURONS
    found, backbone = load_for_study(neurons, model, needed=needed)
    result = write_localisation(backbone, labelled, found, out, settings, run)
    show_localisation(
        result.tables["localisation.csv"],
        result.found.skipped,
        [*result.notes, *(f"flagged: {each}" for each in result.flagged), result.answer],
        out / "index.html",
    )
