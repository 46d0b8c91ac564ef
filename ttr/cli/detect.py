"""``ttr detect``: find the register neurons of a backbone over a folder of images, or a labelled set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.chosen import SourceOptions
from ttr.cli.engine import EngineOptions
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_backbone
from ttr.cli.tables import show_halves, show_neurons, show_skipped

if TYPE_CHECKING:
    from ttr.registers.detection import DetectionRule

IN_SIXTEENS = options.StudyOptions(batch_size=16)


class Way(str, Enum):
    """How neurons are ranked."""

    norms = "norms"
    gradient = "gradient"
    clustering = "clustering"


@dataclass(frozen=True, kw_only=True)
class RuleOptions(Group):
    """What makes a register neuron."""

    threshold: options.Threshold = "auto"
    outlier_layer: options.OutlierLayer = -2
    top_layer: Annotated[
        int | None, typer.Option(help="Last block whose neurons may be kept; default: where outliers emerge.")
    ] = None
    top_k: Annotated[
        int | None, typer.Option(min=1, help="How many neurons to keep; default: a data-driven cut.")
    ] = None
    published: Annotated[
        bool,
        typer.Option("--published", help="Take threshold, layers and top_k that were published for it."),
    ] = False
    sparsity: Annotated[bool, typer.Option(help="Only neurons quiet on half of the tokens.")] = True
    include_cls: Annotated[bool, typer.Option(help="Let CLS count as an outlier.")] = False
    by: Annotated[
        Way,
        typer.Option(
            help="Rank by activity at patches of outlying norm, by its gradient, or at the smaller of two "
            "clusters of patches."
        ),
    ] = Way.norms
    halves: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Draw random halves of the images N times: do these agree? 200 will do.",
        ),
    ] = 0

    def rule(self, backbone: str) -> DetectionRule:
        """Return the rule, as it was published for a backbone where that is asked for.

        Raises:
            OptionError: nothing was published for this backbone.
        """
        threshold, outlier_layer = self.threshold, self.outlier_layer
        top_layer, top_k = self.top_layer, self.top_k
        if self.published:
            threshold, outlier_layer, top_layer, top_k = _published(backbone)
        from ttr.registers.detection import DetectionRule

        return DetectionRule(
            threshold=given.parse_threshold(threshold) or "auto",
            outlier_layer=-2 if outlier_layer is None else outlier_layer,
            top_layer=top_layer,
            top_k=top_k,
            sparsity=self.sparsity,
            include_cls=self.include_cls,
            by=self.by.value,
            halves=self.halves,
        )


@grouped
def detect(
    *,
    model: options.ModelOptions,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Where to write the register neurons (JSON).", callback=given.out_file
        ),
    ],
    source: SourceOptions,
    rules: RuleOptions,
    num_images: Annotated[
        int | None,
        typer.Option(
            "--num-images", "--limit", min=1, help="Look at a random sample of so many images; default: all."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 42,
    reading: options.StudyOptions = IN_SIXTEENS,
    engine: EngineOptions,
) -> None:
    """Find the register neurons of a backbone: the MLP neurons that fire at its outlier patches.

    Reads patch norms at a late block, calls the patches far above the rest outliers, and ranks every neuron
    by its mean absolute activation there. The file holds the kept neurons, the whole ranking, and what it was
    made with. No outliers is an answer: the file is then empty and says so.

    Give either --images or --dataset. Of a labelled set only the training images are looked at: neurons
    chosen on test images would leak them into every number measured there.

    Under torchrun each process looks at its share of the images, and the last to end writes the file, with
    what one process finds. They need one cache; run again after a kill, parts that are there are kept. With
    --engine ray the machines of a Ray cluster look at them, and --cache is a folder that all of them share.

    \b
    Example:
      ttr detect --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --threshold 150 --top-layer 17 --top-k 45 --images radiographs/ --out neurons.json
      ttr detect --backbone phantom --dataset phantom --num-images 64 --seed 42 --out neurons.json
      torchrun --nproc-per-node 8 -m ttr detect --backbone dinov2-vit-l-14 --pretrained --device cuda \\
          --images radiographs/ --out neurons.json
      ttr detect --backbone dinov2-vit-l-14 --pretrained --device cuda --images /shared/radiographs \\
          --cache /shared/cache --out neurons.json --engine ray --address 10.0.0.1:6379
    """
    from ttr.ranks import Rank

    rank = Rank.of()
    machines = engine.machines()
    model = replace(model, device=rank.device(model.device))
    chosen = source.choose(num_images, seed, anonymous=reading.anonymous)
    rule = rules.rule(model.backbone)
    run = replace(reading.run(model, seed=seed), machines=machines)
    from ttr.features.prepared import StillToCome, found_neurons, shared_neurons

    backbone = load_backbone(engine.sent(model))
    if rank.count > 1:
        found = shared_neurons(backbone, chosen, run, rule, rank)
    else:
        found = found_neurons(backbone, chosen, run, rule)
    if isinstance(found, StillToCome):
        missing = f"{found.missing} of {found.parts} {'is' if found.missing == 1 else 'are'} still to come"
        typer.echo(
            f"This process's parts are whole; {missing} from other processes, the last of which writes "
            f"{out}; they lie in {found.folder}."
        )
        return
    found.value.save(out)
    if not found.kept:
        typer.echo("Not kept for the next command: the cache cannot be written; choose one with --cache.")
    show_skipped(found.skipped, named=True)
    halves = found.value.provenance.split_halves
    if halves:
        show_halves(halves, found.value.provenance.images_with_outliers or 0)
    elif halves is not None:
        typer.echo("No halves were drawn: that takes two images with outliers.")
    show_neurons(found.value, out)


def _published(backbone: str) -> tuple[str, int, int, int]:
    """Return threshold, outlier layer, top layer and top_k of the catalog, and say whose they are.

    Raises:
        OptionError: nothing was published for this backbone.
    """
    from ttr.backbones.catalog import catalog
    from ttr.errors import OptionError

    entry = catalog().get(backbone)
    if entry is None or entry.detection is None:
        known = ", ".join(name for name, each in catalog().items() if each.detection)
        raise OptionError(
            f"--published: no detection settings were published for {backbone}; they were for {known}"
        )
    found = entry.detection
    typer.echo(
        f"settings of {found['source']}: threshold {found['threshold']}, outlier layer "
        f"{found['outlier_layer']}, top layer {found['top_layer']}, top_k {found['top_k']}"
    )
    return str(found["threshold"]), found["outlier_layer"], found["top_layer"], found["top_k"]
