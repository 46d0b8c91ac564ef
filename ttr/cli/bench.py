"""``ttr bench``: linear heads on a labelled set, every arm on the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import options
from ttr.cli.engine import EngineOptions
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_for_study, nothing_collected
from ttr.cli.tables import show_bench

if TYPE_CHECKING:
    from ttr.studies.bench.settings import BenchmarkSettings


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(Group):
    """What a benchmark measures."""

    arms: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Arms: plain, token, neurons, ttr, random, random-neurons, attention-bias.",
        ),
    ] = "plain,token,neurons,ttr,random"
    num_registers: Annotated[
        str,
        typer.Option(metavar="LIST", help="Numbers of registers: 1, or 1,4, or 1..20, or classes (as many)."),
    ] = "1"
    heads: Annotated[str, typer.Option(metavar="LIST", help="Heads: linear, logistic.")] = "linear,logistic"
    features: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Classify from: embedding (the model's own feature, as it pools it), cls, patches, "
            "registers, test_time, or several joined by +.",
        ),
    ] = "embedding"
    seeds: Annotated[
        str, typer.Option(metavar="LIST", help="Seeds of the linear probe; the first, of every draw, too.")
    ] = "42..44"
    draws: Annotated[int, typer.Option(min=1, help="Draws of the random arms.")] = 3
    preprocess: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="What is done ahead of the backbone's own preprocessing: fundus-crop, ben-graham, clahe.",
        ),
    ] = ""
    margin: options.Margin = 1.0
    variant: options.VariantName = options.Variant.algorithm

    @property
    def first_seed(self) -> int:
        """The seed of everything but the further probes."""
        return options.parse_numbers("--seeds", self.seeds)[0]

    def settings(self, classes: int) -> BenchmarkSettings:
        """Return them for a set of so many classes.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.forward.preprocessing import parse_steps
        from ttr.studies.bench.settings import BenchmarkSettings

        counts = self.num_registers.replace("classes", str(classes))
        return BenchmarkSettings(
            arms=tuple(options.parse_list(self.arms)),
            num_registers=tuple(options.parse_numbers("--num-registers", counts)),
            heads=tuple(options.parse_list(self.heads)),
            features=tuple(options.parse_list(self.features)),
            seeds=tuple(options.parse_numbers("--seeds", self.seeds)),
            draws=self.draws,
            steps=tuple(parse_steps(self.preprocess)),
            margin=options.points(self.margin),
            variant=self.variant.value,
        )


@grouped
def bench(
    *,
    model: options.ModelOptions,
    data: options.DataOptions,
    out: options.OutFolder,
    neurons: options.NeuronsOrFound = None,
    measured: BenchmarkOptions,
    reading: options.StudyOptions,
    engine: EngineOptions,
) -> None:
    """Benchmark linear heads on a labelled set: does moving the registers help, harm, or change nothing?

    Writes results.csv (every metric with its interval), comparisons.csv (every pair of arms, tested on the
    same images), predictions.parquet, the heads, index.html and manifest.json. Features are cached by the
    content of everything that decides them, so a run that was interrupted goes on where it stopped. Under
    torchrun the processes share the features, in one cache, and the first does the rest; with --engine ray
    the machines of a Ray cluster compute them, and --cache is a folder that all of them share.

    \b
    Example:
      ttr bench --dataset phantom --backbone phantom --out bench/
      ttr bench --dataset aptos --root ~/aptos --backbone dinov2-vit-l-14 --pretrained --image-size 224 \\
          --preprocess fundus-crop --num-registers 1,classes --out bench-aptos/
      ttr bench --dataset aptos --root /shared/aptos --backbone dinov2-vit-l-14 --pretrained --device cuda \\
          --cache /shared/cache --out bench-aptos/ --engine ray --address 10.0.0.1:6379
    """
    from ttr.datasets.registry import require_classes
    from ttr.ranks import Rank

    measured.settings(classes=1)  # what is refused of them is refused before anything heavy
    rank, machines = Rank.of(), engine.machines()
    model = replace(model, device=rank.device(model.device))
    labelled = data.open(anonymous=reading.anonymous)
    require_classes(labelled)
    settings = measured.settings(len(labelled.classes))
    with nothing_collected():
        from ttr.studies.bench.write import share_bench, write_bench

    run = replace(reading.run(model, seed=measured.first_seed), rank=rank, machines=machines)
    model = engine.sent(model)
    found, backbone = load_for_study(neurons, model)
    if rank.index:
        share_bench(backbone, labelled, found, settings, run)
        typer.echo(f"This process's part of the features is done; the first process goes on to {out}.")
        return
    result = write_bench(backbone, labelled, found, out, settings, run)
    show_bench(result.results, result.comparisons, result.benchmark.skipped, out / "index.html")
