"""A tuning as a folder: images in; curves, numbers and a set of register neurons out.

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
from ttr.datasets.registry import OpenedImages, ReadAhead
from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, number, percent
from ttr.errors import ImageError
from ttr.features.prepared import found_neurons
from ttr.files import MANIFEST, write_json, write_text
from ttr.registers.detection import DetectionRule
from ttr.registers.neurons import Provenance, RegisterNeurons
from ttr.run import Run
from ttr.studies.provenance import provenance
from ttr.studies.schemas import TUNING, result_folder
from ttr.studies.tune import pictures
from ttr.studies.tune.settings import TuningSettings, ascending
from ttr.studies.tune.sweep import BATCH
from ttr.studies.tune.tuning import (
    Recommendation,
    SweepRow,
    default_top_k,
    default_top_layers,
    recommend,
    split,
    sweep_neurons,
    sweep_registers,
)
from ttr.wording import SEVERAL_REGISTERS, counted

FEW = 20


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        advice: the recommended set.
        rows: of both sweeps, the bare model's first.
        notes: what one must know of them.
        measured: images that were measured on.
        skipped: {name: reason} of the images that could not be read.
    """

    advice: Recommendation
    rows: list[SweepRow]
    notes: list[str]
    measured: int
    skipped: dict[str, str]


def write_tuning(
    backbone: Backbone,
    images: OpenedImages,
    out: Path,
    neurons: RegisterNeurons | None = None,
    settings: TuningSettings | None = None,
    run: Run | None = None,
) -> Tuning:
    """Find neurons on one half of the images, sweep on the other, and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        images: the images.
        out: folder to make; an earlier result is replaced.
        neurons: a ranking found elsewhere; all images are then measured on.
        settings: what is swept over; None: the default.
        run: how; None: the default, in batches of 8 images.

    Raises:
        TTRError: as the sweeps do, or ``out`` cannot be written.
    """
    settings, run = settings or TuningSettings(), run or Run(batch_size=BATCH)
    run.check(backbone)
    rule = _rule(backbone, neurons, settings)
    found_on, measured_on = _halves(images, neurons, run)
    with result_folder(out) as folder:
        skipped: dict[str, str] = {}
        if neurons is None:
            found = found_neurons(backbone, found_on, run, rule)
            neurons, skipped = found.value, dict(found.skipped)
        neurons.check(backbone)
        reading = ReadAhead(measured_on, run)
        advice, rows = _swept(backbone, neurons, reading, settings, rule, run)
        used = [name for name in found_on.names if name not in skipped]
        skipped |= reading.skipped
        notes = _notes(used, reading.names)
        tuning = Tuning(advice, rows, notes, len(reading.names), skipped)
        counts = ascending("num_registers", settings.num_registers, 0)
        made_with = provenance(
            backbone,
            threshold=rule.threshold,
            outlier_layer=rule.outlier_layer,
            **run.only("batch_size", "progress"),
            tolerance=settings.tolerance,
            num_registers=counts,
            variant=settings.variant,
            seed=run.seed,
        )
        content = {**_content(tuning, settings.tolerance), "found_on": used, "measured_on": reading.names}
        left_out = {"skipped": skipped} if skipped else {}
        write_json(folder / "tune.json", content | left_out)
        write_text(folder / "tune.csv", _table(rows))
        advice.neurons.save(folder / "neurons.json")
        write_text(folder / "index.html", _page(tuning, made_with, rule.outlier_layer))
        files = ["tune.json", "tune.csv", "neurons.json", "index.html"]
        manifest = {"schema": TUNING, "files": files, "provenance": made_with}
        write_json(folder / MANIFEST, manifest | left_out)
    return tuning


def _content(tuning: Tuning, tolerance: float) -> dict[str, Any]:
    """Return what ``tune.json`` says of the sweeps; the images stand behind it."""
    advice = tuning.advice
    return {
        "schema": TUNING,
        "status": advice.status,
        "message": advice.neurons.message,
        "recommended": advice.row and asdict(advice.row),
        "tolerance": tolerance,
        "notes": tuning.notes,
        "rows": [asdict(row) for row in tuning.rows],
    }


def _rule(backbone: Backbone, neurons: RegisterNeurons | None, settings: TuningSettings) -> DetectionRule:
    """Return how outliers are told, as given, else as the neurons were found."""
    source = Provenance() if neurons is None else neurons.provenance
    rule: Any = settings.threshold if settings.threshold is not None else source.threshold or "auto"
    wanted = settings.outlier_layer if settings.outlier_layer is not None else source.outlier_layer
    for block in settings.top_layers or ():
        backbone.layer(block, "top_layer")
    return DetectionRule(rule, backbone.layer(-2 if wanted is None else wanted, "outlier_layer"))


def _halves(
    images: OpenedImages, neurons: RegisterNeurons | None, run: Run
) -> tuple[OpenedImages, OpenedImages]:
    """Return the images to find neurons on (none where these are given) and those to measure on."""
    if neurons is not None:
        return images.take([]), images
    found_on, measured_on = split(len(images), seed=run.seed)
    return images.take(found_on), images.take(measured_on)


def _swept(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: ReadAhead,
    settings: TuningSettings,
    rule: DetectionRule,
    run: Run,
) -> tuple[Recommendation, list[SweepRow]]:
    """Sweep over neurons, choose, and sweep over registers; without outliers there is nothing to choose."""
    barren = neurons.provenance.images_with_outliers == 0
    ks = [1] if barren else settings.top_k or default_top_k(neurons)
    blocks = [rule.outlier_layer] if barren else settings.top_layers
    blocks = blocks or default_top_layers(neurons, rule.outlier_layer)
    shared: dict[str, Any] = {"variant": settings.variant, "rule": rule, "run": run}
    rows = sweep_neurons(backbone, neurons, images, top_k=ks, top_layers=blocks, **shared)
    if barren and rows[0].outlier_share:
        raise ImageError(
            f"outlier patches are rare: none of the {counted(neurons.provenance.images or 0, 'image')} to "
            "find neurons on has one, and some of the others have; give more images"
        )
    advice = recommend(rows, neurons, settings.tolerance)
    if advice.row:
        counts = settings.num_registers
        rows += sweep_registers(backbone, advice.neurons, images, num_registers=counts, **shared)
    return advice, rows


def _notes(found_on: Sequence[str], measured_on: Sequence[str]) -> list[str]:
    count = len(measured_on)
    if not found_on:
        notes = ["The ranking was given. If it was found on these same images, the numbers flatter it."]
    elif found_on == measured_on:
        notes = [f"Only {counted(count, 'image')}: found and measured on the same, which flatters them."]
    else:
        found, others = counted(len(found_on), "image"), counted(count, "other image")
        notes = [f"Neurons were found on {found} and measured on {others}."]
    if count < FEW:
        notes.append(f"Fewer than {FEW} images were measured: take the intervals with a grain of salt.")
    return notes


def _table(rows: Sequence[SweepRow]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(SweepRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _page(tuning: Tuning, made_with: dict[str, Any], layer: int) -> str:
    neuron_rows = [row for row in tuning.rows if row.sweep != "registers"]
    register_rows = [row for row in tuning.rows if row.sweep == "registers"]
    charts = pictures.neuron_curves(neuron_rows) if tuning.advice.row else {}
    charts |= pictures.register_curves(register_rows) if register_rows else {}
    return report(
        "tune.html",
        answer=tuning.advice.neurons.message,
        made_with=made_with,
        charts=charts,
        made=made_with,
        chosen=tuning.advice.row,
        notes=tuning.notes,
        skipped=tuning.skipped,
        images=tuning.measured,
        layer=layer,
        tolerance=made_with["settings"]["tolerance"],
        neurons=_neuron_table(neuron_rows, tuning),
        registers=_register_table(register_rows, tuning.measured),
        several=SEVERAL_REGISTERS,
    )


def _neuron_table(rows: Sequence[SweepRow], tuning: Tuning) -> Table:
    """Return a row a setting, grouped by the blocks that neurons are taken from."""
    groups = grouped(
        rows,
        lambda row: "bare model" if row.top_layer is None else f"neurons of blocks 0..{row.top_layer}",
        lambda row: [
            NOTHING if row.top_k is None else str(row.top_k),
            *(str(row.neurons), *_outliers(row), number(row.max_patch_norm, "{:.1f}")),
            "yes" if row == tuning.advice.row else "",
        ],
    )
    columns = (
        "top_k",
        "neurons",
        "outlier patches, %",
        "of the bare model’s, %",
        "largest patch norm",
        "recommended",
    )
    return Table(f"Mean over {counted(tuning.measured, 'image')}, with 95 % intervals", columns, groups)


def _register_table(rows: Sequence[SweepRow], images: int) -> Table:
    columns = (
        *("R", "cosine with R = 1", "outlier patches, %", "of the bare model’s, %"),
        *("largest patch norm", "CLS attention held by registers, %"),
    )
    shown: list[list[Cell | str]] = [
        [
            *(str(row.num_registers), number(row.cosine, "{:.4f}", row.cosine_low, row.cosine_high)),
            *(*_outliers(row), number(row.max_patch_norm, "{:.1f}"), percent(row.register_attention)),
        ]
        for row in rows
    ]
    return Table(f"Mean over {counted(images, 'image')}, with 95 % intervals", columns, [("", shown)])


def _outliers(row: SweepRow) -> tuple[Cell, Cell]:
    share = percent(row.outlier_share, row.outlier_share_low, row.outlier_share_high, "{:.2f}")
    return share, percent(row.remaining, row.remaining_low, row.remaining_high)
