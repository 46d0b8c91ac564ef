"""An ablation as a folder: a model and a labelled set in, tables, pictures and a page out.

    results.csv      tasks x conditions       per_image.parquet   the same image by image
    attention.csv  divergence.csv  geometry.csv  probing.csv  layers.csv  registers.csv  additivity.csv
    pictures.safetensors  pictures.json       maps of a few images under every condition, and the gallery
    index.html       the page of all of it, see :mod:`ttr.studies.ablate.report`
    manifest.json    everything that is needed to repeat it

Analyses are left out, files and all, where none were asked for. A run that was interrupted goes on from the
cache, and two runs with one seed write the same tables byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import Dataset, sampled_images
from ttr.features.prepared import calibrated_tokens
from ttr.files import MANIFEST, save_tensors, write_json, write_table
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.ablate import analysis_tables, tables
from ttr.studies.ablate.conditions import parse_all
from ttr.studies.ablate.experiment import Measured, run_experiment
from ttr.studies.ablate.pictures import Pictures, pictures
from ttr.studies.ablate.report import write_report
from ttr.studies.ablate.scores import Score, scores
from ttr.studies.ablate.settings import AblationSettings, require
from ttr.studies.provenance import provenance
from ttr.studies.schemas import ABLATION, result_folder

ANALYSES = {
    "attention": analysis_tables.attention,
    "divergence": analysis_tables.divergence,
    "geometry": analysis_tables.geometry,
    "probing": analysis_tables.probing,
    "layers": analysis_tables.layers,
    "registers": analysis_tables.register_cosines,
}


@dataclass(frozen=True, eq=False)
class Ablation:
    """What was measured, and the table of the tasks."""

    measured: Measured
    scores: list[Score]
    results: pd.DataFrame

    @property
    def skipped(self) -> dict[str, str]:
        """{name: reason} of the images that could not be read."""
        paired = {} if self.measured.paired is None else self.measured.paired.skipped
        return {**self.measured.training.skipped, **self.measured.scored.skipped, **paired}


def write_ablation(
    backbone: Backbone,
    arm: Arm,
    dataset: Dataset,
    condition_names: Sequence[str],
    out: Path,
    settings: AblationSettings | None = None,
    run: Run | None = None,
    *,
    pairs: Sequence[KeypointPair] = (),
) -> Ablation:
    """Run the suite and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        arm: the model under study: plain, or wrapped with test-time registers.
        dataset: the labelled set.
        condition_names: see :mod:`ttr.studies.ablate.conditions`; ``all`` for the whole suite.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default.
        pairs: annotated pairs for correspondence (:func:`ttr.datasets.layouts.spair.spair`), not warps.

    Raises:
        TTRError: as the parts do, or ``out`` cannot be written.
    """
    settings, run = settings or AblationSettings(), run or Run()
    with result_folder(out) as folder:
        measured = measure_ablation(backbone, arm, dataset, condition_names, settings, run, pairs=pairs)
        found = scores(measured)
        files = _write_tables(folder, measured, found)
        if settings.analysis_images:
            files += _write_pictures(folder, measured, pictures(measured))
        table = tables.results(found, backbone.name, dataset.name, margin=settings.margin, seed=run.seed)
        write_table(folder / "results.csv", table)
        ablation = Ablation(measured, found, table)
        # The page reads the manifest; nobody sees either before the whole folder gets its name.
        write_json(folder / MANIFEST, _manifest(measured, ["results.csv", *files], ablation.skipped))
        write_report([folder], folder / "index.html")
    return ablation


def measure_ablation(
    backbone: Backbone,
    arm: Arm,
    dataset: Dataset,
    condition_names: Sequence[str],
    settings: AblationSettings,
    run: Run,
    *,
    pairs: Sequence[KeypointPair] = (),
) -> Measured:
    """Measure what :func:`write_ablation` writes: all that several processes with one cache share.

    Raises:
        OutputError: what other processes compute does not come.
        TTRError: as the parts do.
    """
    layout = backbone.layout.with_test_time(arm.num_registers)
    conditions = parse_all(list(condition_names), backbone, layout)
    require(dataset, settings)
    calibration, bank = None, []
    if any(condition.calibrated for condition in conditions):
        sample = sampled_images(dataset, settings.calibration_images, seed=run.seed)
        found_on = calibrated_tokens(backbone, arm, sample, run)
        calibration = found_on.value
        read = [item for item in sample.closed if item.name not in found_on.skipped]
        bank = [read[place] for place in calibration.banked]
    return run_experiment(
        backbone, arm, dataset, conditions, settings, run, calibration=calibration, bank=bank, pairs=pairs
    )


def _write_tables(folder: Path, measured: Measured, found: list[Score]) -> list[str]:
    names, dataset = measured.subject.backbone.name, measured.dataset.name
    write_table(folder / "per_image.parquet", tables.per_image(found, names, dataset))
    written = {
        "additivity": tables.additivities(found, margin=measured.settings.margin, seed=measured.run.seed)
    }
    if measured.analysed is not None:
        written |= {name: function(measured) for name, function in ANALYSES.items()}
    kept = {f"{name}.csv": table for name, table in written.items() if len(table)}
    for name, table in kept.items():
        write_table(folder / name, table)
    return ["per_image.parquet", *kept]


def _write_pictures(folder: Path, measured: Measured, found: Pictures) -> list[str]:
    names = ("pixels", "norms", "attention", "colours", "crops", "crops_mean")
    arrays = {name: getattr(found, name) for name in names}
    kept = {name: array for name, array in arrays.items() if array.size}
    save_tensors(folder / "pictures.safetensors", kept, "pictures", {"schema": ABLATION})
    index = {
        "schema": ABLATION,
        "conditions": [condition.name for condition in measured.conditions],
        "images": list(found.images),
        "queries": [
            *(["cls"] if measured.subject.layout.cls else []),
            *analysis_tables.register_names(measured),
        ],
        "nearest": [[asdict(patch) for patch in patches] for patches in found.nearest],
        "nearest_mean": [[asdict(patch) for patch in patches] for patches in found.nearest_mean],
    }
    write_json(folder / "pictures.json", index)
    return ["pictures.safetensors", "pictures.json"]


def _manifest(measured: Measured, files: list[str], skipped: dict[str, str]) -> dict[str, Any]:
    dataset, subject = measured.dataset, measured.subject
    calibration = subject.calibration
    return {
        "schema": ABLATION,
        "files": [*files, "index.html"],
        "dataset": {
            "name": dataset.name,
            "classes": list(dataset.classes),
            "train": len(measured.training.items),
            "test": len(measured.scored.items),
            "analysed": 0 if measured.analysed is None else len(measured.analysed.items),
            "pairs": 0 if measured.paired is None else len(measured.paired.items),
            "skipped": skipped,
            "card": asdict(dataset.card),
        },
        "conditions": [condition.name for condition in measured.conditions],
        "blocks": list(measured.blocks),
        "arm": subject.arm.to_json(),
        "calibration": None
        if calibration is None
        else {"images": calibration.images, "digest": calibration.digest},
        "provenance": provenance(
            subject.backbone,
            **{**asdict(measured.settings), "tasks": list(measured.settings.tasks)},
            **measured.run.only("seed", "batch_size", "on_error", "workers", "progress"),
        ),
    }
