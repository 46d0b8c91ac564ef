"""A benchmark as a folder: a labelled set and a backbone in, tables, heads and a page out.

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
from ttr.datasets.registry import Dataset, require_classes, sampled_images
from ttr.features.extract import extract
from ttr.features.prepared import CALIBRATION_IMAGES, DETECTION_IMAGES, calibrated_bias, found_neurons
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import Arm, arms
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.bench.benchmark import Benchmark, run_benchmark
from ttr.studies.bench.page import page
from ttr.studies.bench.settings import BenchmarkSettings, one_seed
from ttr.studies.bench.statistics import statistics
from ttr.studies.bench.tables import predictions
from ttr.studies.provenance import provenance
from ttr.studies.schemas import BENCHMARK, result_folder


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
    settings: BenchmarkSettings | None = None,
    run: Run | None = None,
) -> Bench:
    """Run the benchmark and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set.
        neurons: its register neurons; None: found on a seeded sample of the training images.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default.

    Raises:
        TTRError: as the parts do, a set of one class, or ``out`` cannot be written.
    """
    settings = settings or BenchmarkSettings()
    seeds, run = one_seed(settings, run or Run())
    require_classes(dataset)
    with result_folder(out) as folder:
        neurons, treatments = _prepared(backbone, dataset, neurons, settings, run)
        found = run_benchmark(backbone, dataset, treatments, settings, run)
        measured = statistics(found, backbone.name, run.shelves, settings.margin)
        bench = Bench(found, neurons, measured.results, measured.comparisons)
        write_table(folder / "results.csv", bench.results)
        write_table(folder / "comparisons.csv", bench.comparisons)
        write_table(folder / "predictions.parquet", predictions(found))
        neurons.save(folder / "neurons.json")
        names = ["results.csv", "comparisons.csv", "predictions.parquet", "neurons.json", "index.html"]
        names += _save_heads(found, folder)
        made_with = provenance(
            backbone,
            arms=list(settings.arms),
            num_registers=list(settings.num_registers),
            variant=settings.variant,
            heads=list(settings.heads),
            features=list(settings.features),
            seeds=list(seeds),
            draws=settings.draws,
            margin=settings.margin,
            preprocessing=Preprocessing(backbone, settings.steps).to_json(),
            **run.only("batch_size", "on_error"),
        )
        write_text(folder / "index.html", page(found, neurons, bench.results, bench.comparisons, made_with))
        write_json(folder / MANIFEST, _manifest(bench, treatments, names, made_with))
    return bench


def share_bench(
    backbone: Backbone,
    dataset: Dataset,
    neurons: RegisterNeurons | None,
    settings: BenchmarkSettings,
    run: Run,
) -> None:
    """Do a further process's share of :func:`write_bench`, whose features the first one waits for.

    Raises:
        OutputError: what other processes compute does not come.
        TTRError: as the parts do, or a set of one class.
    """
    _, run = one_seed(settings, run)
    require_classes(dataset)
    _, treatments = _prepared(backbone, dataset, neurons, settings, run)
    extract(backbone, dataset, treatments, run, preprocessing=Preprocessing(backbone, settings.steps))


def _prepared(
    backbone: Backbone,
    dataset: Dataset,
    neurons: RegisterNeurons | None,
    settings: BenchmarkSettings,
    run: Run,
) -> tuple[RegisterNeurons, list[Arm]]:
    """Return the neurons, found where none are given, and the arms."""
    if neurons is None:
        sample = sampled_images(dataset, DETECTION_IMAGES, seed=run.seed)
        neurons = found_neurons(backbone, sample, run).value
    return neurons, _arms(backbone, neurons, dataset, settings, run)


def _arms(
    backbone: Backbone,
    neurons: RegisterNeurons,
    dataset: Dataset,
    settings: BenchmarkSettings,
    run: Run,
) -> list[Arm]:
    """Return the arms for every number of registers, those without registers once."""
    bias = None
    if "attention-bias" in settings.arms:
        sample = sampled_images(dataset, CALIBRATION_IMAGES, seed=run.seed)
        bias = calibrated_bias(backbone, neurons, sample, run).value
    given: dict[str, Any] = {"draws": settings.draws, "seed": run.seed, "bias": bias}
    given["variant"] = settings.variant
    made: dict[tuple[str, int], Arm] = {}
    for count in settings.num_registers:
        for arm in arms(settings.arms, backbone, neurons, num_registers=count, **given):
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
            "notes": list(dataset.notes),
            "card": asdict(dataset.card),
        },
        "arms": [arm.to_json() for arm in treatments],
        "features": bench.benchmark.keys,
        "provenance": made_with,
    }
