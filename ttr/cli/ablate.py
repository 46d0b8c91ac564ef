"""``ttr ablate``: replace tokens, and see which tasks notice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.checks import MOST_REGISTERS
from ttr.cli import options
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_backbone, load_with_neurons
from ttr.cli.tables import show_ablation

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.registers.arms import Arm
    from ttr.studies.ablate.settings import AblationSettings


@dataclass(frozen=True, kw_only=True)
class AblationOptions(Group):
    """What an ablation measures."""

    conditions: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="all, or TOKENS:SUBSTITUTE[@BLOCKS],...: tokens cls, registers, register-2, "
            "registers-1..3, test-time, patches-4; substitute zero, mean, noise, shuffle, resample; "
            "blocks @11, @3..5, @last.",
        ),
    ] = "all"
    tasks: Annotated[
        str, typer.Option(metavar="LIST", help="Tasks: probe, knn, correspondence, segmentation, oneshot.")
    ] = "probe,knn,correspondence"
    head: Annotated[str, typer.Option(metavar="logistic|linear", help="Head of the probe.")] = "logistic"
    donors: Annotated[
        str,
        typer.Option(
            metavar="any|other-class",
            help="Whose tokens shuffle and resample take: any other patient's (image's, where the set names "
            "no patients), or those of another class, too.",
        ),
    ] = "any"
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Training images that mean, noise and resample are taken from.")
    ] = 5000
    analysis_images: Annotated[
        int, typer.Option(min=0, help="Test images for attention, geometry and layers; 0: leave these out.")
    ] = 64
    layers: Annotated[str, typer.Option(metavar="N|all", help="Blocks that layer-wise probes look into.")] = (
        "7"
    )
    margin: options.Margin = 1.0

    def settings(self, blocks: int) -> AblationSettings:
        """Return them for a model of so many blocks.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.errors import OptionError
        from ttr.studies.ablate.settings import AblationSettings

        looked_into = str(blocks) if self.layers == "all" else self.layers
        if not looked_into.isdigit():
            raise OptionError(f"--layers {self.layers!r}; needed a number from 2 on, or all")
        return AblationSettings(
            tasks=tuple(options.parse_list(self.tasks)),
            calibration_images=self.calibration_images,
            analysis_images=self.analysis_images,
            layers=max(2, min(int(looked_into), blocks)),
            head=self.head,
            margin=options.points(self.margin),
            donors=self.donors,
        )


@grouped
def ablate(
    *,
    model: options.ModelOptions,
    data: options.DataOptions,
    out: options.OutFolder,
    measured: AblationOptions,
    neurons: options.NeuronsFile = None,
    num_registers: Annotated[
        int,
        typer.Option(
            "--num-registers",
            min=0,
            max=MOST_REGISTERS,
            help="Study the model wrapped with so many; 0: bare.",
        ),
    ] = 0,
    variant: options.VariantName = options.Variant.algorithm,
    annotated: options.PairsOptions,
    seed: options.DrawSeed = 42,
    pooling: options.PoolingName = options.Pooling.own,
    reading: options.ShuffledOptions,
) -> None:
    """Replace CLS, registers or random patches at the blocks' outputs, and measure what the tasks lose.

    Zeroing alone overstates what a token does, since the model never met a zero there. So the suite (all)
    holds the plausible replacements beside it: the mean over a calibration set, matched noise, another
    image's tokens. Heads are trained on the full model and tested on the ablated one.

    Writes results.csv (every condition and metric with interval, change from full, paired test), tables of
    attention, divergence, geometry, layers and registers, index.html and manifest.json. Everything goes
    through the feature cache, so a run that was interrupted goes on where it stopped. Under torchrun the
    processes share the images of each step, in one cache, and the first of them fits heads and writes.

    \b
    Example:
      ttr ablate --backbone phantom-reg4 --dataset phantom --out ablation/
      ttr ablate --backbone dinov2-vit-s-14-reg4 --pretrained --dataset aptos --root ~/aptos --device cuda \\
          --conditions registers:zero,registers:mean,registers:shuffle,cls:mean --tasks probe,knn --out abl/
    """
    from ttr.errors import OptionError
    from ttr.ranks import Rank
    from ttr.studies.ablate.conditions import check_conditions
    from ttr.studies.ablate.settings import require

    if measured.head not in ("logistic", "linear"):
        raise OptionError(f"--head {measured.head!r}; needed logistic or linear")
    # What is refused of them is refused before anything heavy.
    measured.settings(blocks=2)
    check_conditions(options.parse_list(measured.conditions))
    rank = Rank.of()
    model = replace(model, device=rank.device(model.device))
    run = replace(reading.run(model, seed=seed), rank=rank)
    labelled = data.open(anonymous=reading.anonymous)
    require(labelled, measured.settings(blocks=2))
    from ttr.studies.ablate.write import measure_ablation, write_ablation

    backbone, arm = _subject(model, neurons, num_registers, variant)
    backbone, settings = backbone.with_pooling(pooling.value), measured.settings(backbone.num_layers)
    conditions = options.parse_list(measured.conditions)
    pairs = annotated.read(seed, anonymous=reading.anonymous)
    if rank.index:
        measure_ablation(backbone, arm, labelled, conditions, settings, run, pairs=pairs)
        typer.echo(f"This process's part is done; the first process goes on to {out}.")
        return
    found = write_ablation(backbone, arm, labelled, conditions, out, settings, run, pairs=pairs)
    show_ablation(found.results, found.skipped, out / "index.html")


def _subject(
    model: options.ModelOptions, neurons: Path | None, num_registers: int, variant: options.Variant
) -> tuple[Backbone, Arm]:
    """Load the backbone and say what is done to it in every condition.

    Raises:
        OptionError: neurons without registers.
    """
    from ttr.errors import OptionError
    from ttr.registers.arms import PLAIN, Arm

    if neurons is not None and not num_registers:
        raise OptionError("--neurons were given with no test-time register; add --num-registers 1")
    if not num_registers:
        return load_backbone(model), PLAIN
    found, backbone = load_with_neurons(neurons, model)
    return backbone, Arm("ttr", found, num_registers, variant=variant.value)
