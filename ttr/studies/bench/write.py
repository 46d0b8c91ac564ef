"""The benchmark as an application: a labelled set and a backbone in, a whole folder of tables out.

The folder holds ``results.csv``, ``comparisons.csv`` and ``predictions.parquet`` (columns in
:mod:`ttr.studies.bench.tables`), the trained heads, ``neurons.json``, ``index.html`` and, written last,
``manifest.json`` with everything that is needed to repeat it. Two runs with one seed write the same tables
byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset
from ttr.drawing.html import fill
from ttr.errors import OptionError
from ttr.evaluate.probe import HEADS
from ttr.features.chunks import check_on_error
from ttr.features.prepared import calibrated, found_neurons
from ttr.files import MANIFEST, whole_folder, write_json, write_text
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import DEFAULT, Arm, arms, check_names
from ttr.registers.attention_bias import BiasCalibration
from ttr.registers.neurons import RegisterNeurons
from ttr.studies.bench.benchmark import SEEDS, Benchmark, check_settings, run_benchmark
from ttr.studies.bench.statistics import Statistics, statistics
from ttr.studies.bench.tables import predictions
from ttr.studies.provenance import provenance
from ttr.studies.schemas import BENCHMARK
from ttr.wording import counted

#: Metrics of the page's table; all of them are in results.csv.
SHOWN = ("top1", "top3", "f1_macro", "auc_ovr", "balanced_accuracy", "qwk", "ece")


@dataclass(frozen=True, eq=False)
class Bench:
    """What was measured: the outcomes and the tables written of them."""

    benchmark: Benchmark
    neurons: RegisterNeurons
    results: pd.DataFrame
    comparisons: pd.DataFrame


def write_bench(
    backbone: Backbone,
    dataset: Dataset,
    neurons: RegisterNeurons | None,
    out: Path,
    cache: Path,
    *,
    arm_names: Sequence[str] = DEFAULT,
    num_registers: Sequence[int] = (1,),
    heads: Sequence[str] = tuple(HEADS),
    features: Sequence[str] = ("embedding",),
    seeds: Sequence[int] = SEEDS,
    draws: int = 3,
    steps: Sequence[str] = (),
    batch_size: int = 32,
    on_error: str = "raise",
    workers: int = 2,
    progress: bool = False,
) -> Bench:
    """Run the benchmark and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set.
        neurons: its register neurons; None: found on a seeded sample of the training images.
        out: folder to make; an earlier result is replaced.
        cache: folder of the feature cache.
        arm_names: of :data:`ttr.registers.arms.NAMES`.
        num_registers: values of R for the arms with tokens.
        heads: ``linear``, ``logistic``.
        features: what to classify from, see :func:`ttr.studies.bench.benchmark.run_benchmark`.
        seeds: of the linear probe; the first one of everything else, too.
        draws: of the random arms.
        steps: optional preprocessing, see :mod:`ttr.forward.preprocessing`.
        batch_size: images a pass.
        on_error: ``"raise"`` or ``"skip"`` a bad image.
        workers: reading threads.
        progress: show progress bars.

    Raises:
        TTRError: as the parts do, or ``out`` cannot be written.
    """
    check_names(arm_names)
    check_settings(heads, features, seeds)
    check_on_error(on_error)
    if not num_registers:
        raise OptionError("no numbers of registers were given; needed one or more")
    preprocessing = Preprocessing(backbone, tuple(steps))
    with whole_folder(out) as folder:
        search: dict[str, Any] = {"seed": seeds[0], "on_error": on_error, "progress": progress}
        if neurons is None:
            neurons = found_neurons(backbone, dataset, cache, **search)
        bias = None
        if "attention-bias" in arm_names:
            bias = calibrated(backbone, neurons, dataset, cache, **search)
        treatments = _arms(backbone, neurons, arm_names, num_registers, draws, seeds[0], bias)
        found = run_benchmark(
            backbone,
            dataset,
            treatments,
            cache,
            heads=heads,
            features=features,
            seeds=seeds,
            preprocessing=preprocessing,
            batch_size=batch_size,
            on_error=on_error,
            workers=workers,
            progress=progress,
        )
        measured = statistics(found, backbone.name, cache)
        bench = Bench(found, neurons, measured.results, measured.comparisons)
        bench.results.to_csv(folder / "results.csv", index=False)
        bench.comparisons.to_csv(folder / "comparisons.csv", index=False)
        predictions(found).to_parquet(folder / "predictions.parquet", index=False)
        neurons.save(folder / "neurons.json")
        names = ["results.csv", "comparisons.csv", "predictions.parquet", "neurons.json", "index.html"]
        names += _save_heads(found, folder)
        made_with = provenance(
            backbone,
            arms=list(arm_names),
            num_registers=list(num_registers),
            heads=list(heads),
            features=list(features),
            seeds=list(seeds),
            draws=draws,
            preprocessing=preprocessing.to_json(),
            batch_size=batch_size,
            on_error=on_error,
        )
        write_text(folder / "index.html", _page(bench, measured, made_with))
        write_json(folder / MANIFEST, _manifest(bench, treatments, names, made_with))
    return bench


def _arms(
    backbone: Backbone,
    neurons: RegisterNeurons,
    names: Sequence[str],
    counts: Sequence[int],
    draws: int,
    seed: int,
    bias: BiasCalibration | None,
) -> list[Arm]:
    """Return the arms for every number of registers, those without registers once."""
    made: dict[tuple[str, int], Arm] = {}
    for count in counts:
        for arm in arms(names, backbone, neurons, num_registers=count, draws=draws, seed=seed, bias=bias):
            made.setdefault((arm.name, arm.num_registers), arm)
    return list(made.values())


def _save_heads(found: Benchmark, folder: Path) -> list[str]:
    names = []
    for outcome in found.outcomes:
        if ":plain" in outcome.head:
            continue
        parts = (outcome.arm.name, outcome.arm.num_registers, outcome.feature, outcome.head, outcome.seed)
        name = f"head-{'-'.join(str(part).replace(':', '') for part in parts)}.safetensors"
        outcome.model.save(folder / name)
        names.append(name)
    return names


def _manifest(
    bench: Bench, treatments: Sequence[Arm], names: list[str], made_with: dict[str, Any]
) -> dict[str, Any]:
    dataset = bench.benchmark.dataset
    return {
        "schema": BENCHMARK,
        "files": names,
        "dataset": {
            "name": dataset.name,
            "classes": list(dataset.classes),
            "images": bench.benchmark.counts,
            "digest": bench.benchmark.data,
            "grouped": bench.benchmark.groups is not None,
            "skipped": bench.benchmark.skipped,
            "card": asdict(dataset.card),
        },
        "arms": [arm.to_json() for arm in treatments],
        "features": bench.benchmark.keys,
        "provenance": made_with,
    }


def _page(bench: Bench, measured: Statistics, made_with: dict[str, Any]) -> str:
    table = bench.results
    shown = [name for name in SHOWN if table.loc[table.metric == name, "value"].notna().any()]
    first_seeds = table[table.seed == table.seed.iloc[0]]
    columns = ["head", "feature", "arm", "num_registers"]
    rows = [
        {"place": place, "metrics": {row.metric: row for row in part.itertuples()}}
        for place, part in first_seeds.groupby(columns, sort=False)
    ]
    return fill(
        "bench.html",
        dataset=bench.benchmark.dataset,
        counts=bench.benchmark.counts,
        skipped=bench.benchmark.skipped,
        counted=counted,
        neurons=bench.neurons,
        rows=rows,
        shown=shown,
        seed=int(table.seed.iloc[0]),
        comparisons=list(bench.comparisons.itertuples()) if len(bench.comparisons) else [],
        forest=measured.forest,
        confusion=measured.confusions,
        provenance=made_with,
    )
