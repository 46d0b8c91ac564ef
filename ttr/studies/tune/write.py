"""Tuning as an application: a folder of images in; curves, numbers and a set of register neurons out.

The folder holds ``tune.json`` and ``tune.csv`` (the same rows, columns as in
:class:`ttr.studies.tune.tuning.SweepRow`), ``neurons.json`` (the recommended set), ``index.html``
(self-contained) and, written last, ``manifest.json``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages
from ttr.drawing.html import fill
from ttr.errors import ImageError
from ttr.files import MANIFEST, whole_folder, write_json, write_text
from ttr.norms import Threshold
from ttr.registers.detection import detect
from ttr.registers.neurons import Provenance, RegisterNeurons
from ttr.studies.provenance import provenance
from ttr.studies.schemas import TUNING
from ttr.studies.tune import pictures
from ttr.studies.tune.tuning import (
    REGISTERS,
    TOLERANCE,
    Recommendation,
    SweepRow,
    ascending,
    default_top_k,
    default_top_layers,
    recommend,
    split,
    sweep_neurons,
    sweep_registers,
)
from ttr.wording import counted

FEW = 20


@dataclass(frozen=True)
class Tuning:
    """What was found: the advice, the rows of both sweeps (the bare model's first), and notes on them."""

    advice: Recommendation
    rows: list[SweepRow]
    notes: list[str]


def write_tuning(
    backbone: Backbone,
    paths: Sequence[Path],
    out: Path,
    *,
    neurons: RegisterNeurons | None = None,
    top_k: Sequence[int] | None = None,
    top_layers: Sequence[int] | None = None,
    num_registers: Sequence[int] = REGISTERS,
    tolerance: float = TOLERANCE,
    threshold: Threshold | None = None,
    outlier_layer: int | None = None,
    batch_size: int = 8,
    seed: int = 42,
    progress: bool = False,
) -> Tuning:
    """Find neurons on one half of the images, sweep on the other, and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        paths: image files.
        out: folder to make; an earlier result is replaced.
        neurons: a ranking found elsewhere; all images are then measured on.
        top_k: numbers of neurons; None: :func:`ttr.studies.tune.tuning.default_top_k`.
        top_layers: last blocks; None: :func:`ttr.studies.tune.tuning.default_top_layers`.
        num_registers: values of R for the second sweep.
        tolerance: share of the bare model's outliers below which they have vanished.
        threshold: for outliers; None: the rule of the given neurons, else ``"auto"``.
        outlier_layer: where they are counted; None: where the given neurons' were, else the penultimate.
        batch_size: images a pass.
        seed: of the split and of the resamples.
        progress: show progress bars.

    Raises:
        TTRError: as the sweeps do, or ``out`` cannot be written.
    """
    counts = ascending("num_registers", num_registers, 0)
    if top_k is not None:
        ascending("top_k", top_k, 1)
    source = Provenance() if neurons is None else neurons.provenance
    rule: Any = threshold if threshold is not None else source.threshold or "auto"
    wanted = outlier_layer if outlier_layer is not None else source.outlier_layer
    layer = backbone.layer(-2 if wanted is None else wanted, "outlier_layer")
    for block in top_layers or ():
        backbone.layer(block, "top_layer")
    found_on, measured_on = split(len(paths), seed=seed) if neurons is None else ([], range(len(paths)))
    notes = _notes(found_on, measured_on)
    settings = {"threshold": rule, "outlier_layer": layer, "batch_size": batch_size, "progress": progress}
    with whole_folder(out) as folder:
        if neurons is None:
            neurons = detect(backbone, OpenedImages([paths[i] for i in found_on]), **settings)
        neurons.check(backbone)
        barren = neurons.provenance.images_with_outliers == 0
        ks = [1] if barren else top_k or default_top_k(neurons)
        blocks = [layer] if barren else top_layers or default_top_layers(neurons, layer)
        held_out = OpenedImages([paths[i] for i in measured_on])
        rows = sweep_neurons(backbone, neurons, held_out, top_k=ks, top_layers=blocks, seed=seed, **settings)
        if barren and rows[0].outlier_share:
            raise ImageError(
                f"outlier patches are rare: none of the {len(found_on)} images to find neurons on has one, "
                "some of the others have; give more images"
            )
        advice = recommend(rows, neurons, tolerance)
        if advice.row:
            rows += sweep_registers(
                backbone, advice.neurons, held_out, num_registers=counts, seed=seed, **settings
            )
            if not advice.row.outlier_share:
                notes.append(_rule_of_three(len(measured_on)))
        tuning = Tuning(advice, rows, notes)
        made_with = provenance(
            backbone, **{**settings, "tolerance": tolerance, "num_registers": counts, "seed": seed}
        )
        write_json(
            folder / "tune.json",
            {
                "schema": TUNING,
                "status": advice.status,
                "message": advice.neurons.message,
                "recommended": advice.row and asdict(advice.row),
                "tolerance": tolerance,
                "notes": notes,
                "rows": [asdict(row) for row in rows],
                "found_on": [str(paths[i]) for i in found_on],
                "measured_on": [str(paths[i]) for i in measured_on],
            },
        )
        write_text(folder / "tune.csv", _table(rows))
        advice.neurons.save(folder / "neurons.json")
        write_text(folder / "index.html", _page(tuning, made_with, len(measured_on), layer, tolerance))
        files = ["tune.json", "tune.csv", "neurons.json", "index.html"]
        write_json(folder / MANIFEST, {"files": files, "provenance": made_with})
    return tuning


def _notes(found_on: Sequence[int], measured_on: Sequence[int]) -> list[str]:
    count = len(measured_on)
    if not found_on:
        notes = ["The ranking was given. If it was found on these same images, the numbers flatter it."]
    elif found_on == measured_on:
        notes = [f"Only {counted(count, 'image')}: found and measured on the same, which flatters them."]
    else:
        notes = [f"Neurons were found on {len(found_on)} images and measured on {count} others."]
    if count < FEW:
        notes.append(f"Fewer than {FEW} images were measured: take the intervals with a grain of salt.")
    return notes


def _rule_of_three(images: int) -> str:
    bound = 1 - 0.05 ** (1 / images)
    return (
        f"With the recommended neurons none of the {images} images has an outlier left, so the interval is 0 "
        f"to 0. It is a sample all the same: up to {bound:.1%} of such images may have one (95 % confidence)."
    )


def _table(rows: Sequence[SweepRow]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(SweepRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _page(tuning: Tuning, made_with: dict[str, Any], measured: int, layer: int, tolerance: float) -> str:
    neuron_rows = [row for row in tuning.rows if row.sweep != "registers"]
    register_rows = [row for row in tuning.rows if row.sweep == "registers"]
    return fill(
        "tune.html",
        advice=tuning.advice,
        chosen=tuning.advice.row,
        notes=tuning.notes,
        measured=measured,
        layer=layer,
        tolerance=tolerance,
        neuron_rows=neuron_rows,
        register_rows=register_rows,
        neuron_curves=pictures.neuron_curves(neuron_rows) if tuning.advice.row else "",
        register_curves=pictures.register_curves(register_rows) if register_rows else "",
        provenance=made_with,
    )
