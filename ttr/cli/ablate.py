"""``ttr ablate``: replace tokens, and see which tasks notice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import options
from ttr.cli.ablation_table import show_ablation
from ttr.cli.loading import load_backbone, load_with_neurons

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.registers.arms import Arm


def ablate(
    backbone: options.BackboneName,
    dataset: options.DatasetName,
    out: options.OutFolder,
    root: options.DatasetRoot = None,
    conditions: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="all, or TOKENS:SUBSTITUTE[@BLOCKS],...: tokens cls, registers, register-2, "
            "registers-1..3, test-time, patches-4; substitute zero, mean, noise, shuffle, resample; "
            "blocks @11, @3..5, @last.",
        ),
    ] = "all",
    tasks: Annotated[
        str, typer.Option(metavar="LIST", help="Of probe, knn, correspondence, segmentation, oneshot.")
    ] = "probe,knn,correspondence",
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    neurons: options.NeuronsFile = None,
    num_registers: Annotated[
        int,
        typer.Option(
            "--num-registers",
            min=0,
            help="Study the model wrapped with so many; 0: bare.",
        ),
    ] = 0,
    pairs: options.PairsFolder = None,
    num_pairs: options.NumPairs = None,
    head: Annotated[str, typer.Option(metavar="logistic|linear", help="Head of the probe.")] = "logistic",
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Training images that mean, noise and resample are taken from.")
    ] = 5000,
    analysis_images: Annotated[
        int, typer.Option(min=0, help="Test images for attention, geometry and layers; 0: leave these out.")
    ] = 64,
    layers: Annotated[
        str, typer.Option(metavar="N|all", help="Blocks that layer-wise probes look into.")
    ] = "7",
    seed: options.DrawSeed = 42,
    on_error: options.OnError = "raise",
    cache: options.CacheFolder = None,
    workers: options.Workers = 2,
    batch_size: options.ShuffledBatch = 32,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Replace CLS, registers or random patches at the blocks' outputs, and measure what the tasks lose.

    Zeroing alone overstates what a token does, since the model never met a zero there. So the suite (all)
    holds the plausible replacements beside it: the mean over a calibration set, matched noise, another
    image's tokens. Heads are trained on the full model and tested on the ablated one.

    Writes results.csv (every condition and metric with interval, change from full, paired test), tables of
    attention, divergence, geometry, layers and registers, index.html and manifest.json. Everything goes
    through the feature cache, so a run that was interrupted goes on where it stopped.

    \b
    Example:
      ttr ablate --backbone phantom-reg4 --dataset phantom --out ablation/
      ttr ablate --backbone dinov2-vit-s-14-reg4 --pretrained --dataset aptos --root ~/aptos --device cuda \\
          --conditions registers:zero,registers:mean,registers:shuffle,cls:mean --tasks probe,knn --out abl/
    """
    from ttr.datasets.registry import open_dataset
    from ttr.datasets.spair import spair
    from ttr.errors import OptionError
    from ttr.studies.ablate.settings import Settings
    from ttr.studies.ablate.write import write_ablation

    if head not in ("logistic", "linear"):
        raise OptionError(f"--head {head!r}; needed logistic or linear")
    data = open_dataset(dataset, root)
    model, arm = _subject(backbone, neurons, num_registers, weights, pretrained, image_size, device)
    looked_into = str(model.num_layers) if layers == "all" else layers
    if not looked_into.isdigit():
        raise OptionError(f"--layers {layers!r}; needed a number from 2 on, or all")
    settings = Settings(
        tasks=tuple(options.parse_list(tasks)),
        calibration_images=calibration_images,
        analysis_images=analysis_images,
        layers=max(2, min(int(looked_into), model.num_layers)),
        head=head,
        seed=seed,
        batch_size=batch_size,
        on_error=on_error,
        workers=workers,
        progress=not quiet,
    )
    found = write_ablation(
        model,
        arm,
        data,
        options.parse_list(conditions),
        out,
        cache or options.default_cache(),
        settings,
        pairs=() if pairs is None else spair(pairs, limit=num_pairs, seed=seed),
    )
    show_ablation(found.results, found.skipped, out / "index.html")


def _subject(
    name: str,
    neurons: Path | None,
    num_registers: int,
    weights: Path | None,
    pretrained: bool,
    image_size: int | None,
    device: str,
) -> tuple[Backbone, Arm]:
    """Load the backbone and say what is done to it in every condition.

    Raises:
        OptionError: neurons without registers.
    """
    from ttr.errors import OptionError
    from ttr.registers.arms import Arm
    from ttr.registers.neurons import RegisterNeurons

    if neurons is not None and not num_registers:
        raise OptionError("--neurons were given with no test-time register; add --num-registers 1")
    if not num_registers:
        nothing = RegisterNeurons.from_pairs([])
        return load_backbone(name, weights, pretrained, image_size, device), Arm("plain", nothing, 0)
    found, model = load_with_neurons(neurons, name, weights, pretrained, image_size, device)
    return model, Arm("ttr", found, num_registers)
