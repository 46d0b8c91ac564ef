"""Integration as an application: a labelled set and one or more backbones in, a whole folder out.

The folder holds ``integration.csv``, ``changes.csv``, ``accuracy.csv``, ``layers.csv`` and ``registers.csv``
(columns in :mod:`ttr.studies.integrate.tables`), ``index.html`` and, written last, ``manifest.json``.
Test images are measured; heads learn from training images, and neurons are found on these, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, Item, OpenedImages, draw_sample, groups_of, sampled_images
from ttr.drawing.html import fill
from ttr.errors import DataError, OptionError
from ttr.evaluate.probe import Labelled
from ttr.files import MANIFEST, whole_folder, write_json, write_text
from ttr.forward.batches import batches
from ttr.registers.detection import detect
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters
from ttr.studies.integrate.pictures import cls_path
from ttr.studies.integrate.section import integration_section
from ttr.studies.integrate.study import check_registers, study
from ttr.studies.integrate.tables import (
    accuracy_table,
    changes_table,
    integration_table,
    layers_table,
    registers_table,
)
from ttr.studies.provenance import provenance
from ttr.studies.schemas import INTEGRATION
from ttr.wording import counted

DETECTION_IMAGES = 200
TABLES = ("integration", "changes", "accuracy", "layers", "registers")


@dataclass(frozen=True, eq=False)
class Integration:
    """What was measured: the tables by name, and notes to read before them."""

    tables: dict[str, pd.DataFrame]
    notes: list[str]


def write_integration(
    backbones: Sequence[str],
    load: Callable[[str], tuple[Backbone, RegisterNeurons | None]],
    dataset: Dataset,
    out: Path,
    *,
    blocks: Sequence[int] = (-1,),
    num_registers: Sequence[int] = (0, 1, 2, 3, 4),
    renormalise: bool = False,
    keep_skip: bool = False,
    num_images: int | None = 500,
    batch_size: int = 8,
    seed: int = 42,
    progress: bool = False,
) -> Integration:
    """Measure what CLS is made of and write the folder ``out``.

    Args:
        backbones: names, each once.
        load: name -> the bare backbone, and its register neurons (None: found on training images).
        dataset: the labelled set, with training and test images.
        out: folder to make; an earlier result is replaced.
        blocks: where CLS is restricted; negative ones count from the last.
        num_registers: values of R; 0 is the bare model.
        renormalise: divide the kept attention weights by their sum; published: not.
        keep_skip: leave the skip connection beside every part; published: not.
        num_images: a seeded sample of so many test (and training) images; None: all.
        batch_size: images a pass.
        seed: of samples, draws and resamples.
        progress: show progress bars.

    Raises:
        TTRError: as the parts do, or ``out`` cannot be written.
    """
    if not backbones or len(set(backbones)) != len(backbones):
        raise OptionError(f"backbones {', '.join(backbones) or 'none'}; needed one or more, each once")
    counts = check_registers(num_registers)
    test = _chosen(dataset, "test", num_images, seed)
    train = _chosen(dataset, "train", num_images, seed)
    settings: dict[str, Any] = {"renormalise": renormalise, "keep_skip": keep_skip, "batch_size": batch_size}
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    made_with: list[dict[str, Any]] = []
    notes = _notes(renormalise, keep_skip)
    with whole_folder(out) as folder:
        for name in backbones:
            backbone, neurons = load(name)
            backbone.require_cls()
            if neurons is None:
                sample = sampled_images(dataset, DETECTION_IMAGES, seed=seed)
                neurons = (
                    detect(backbone, sample, batch_size=batch_size, progress=progress)
                    if any(counts)
                    else RegisterNeurons.from_pairs([])
                )
            notes += _about(backbone, neurons, counts)
            tables = _measured(
                backbone, neurons, dataset, train, test, counts, blocks, seed, progress, settings
            )
            for table, rows in tables.items():
                found[table].append(rows)
            made_with.append(
                provenance(
                    backbone,
                    dataset=dataset.name,
                    blocks=list(blocks),
                    num_registers=counts,
                    neurons=neurons.pairs,
                    num_images=num_images,
                    seed=seed,
                    **settings,
                )
            )
        result = Integration({name: pd.concat(rows) for name, rows in found.items()}, notes)
        for name, table in result.tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        write_text(folder / "index.html", _page(result, dataset, len(test), made_with))
        manifest = {
            "schema": INTEGRATION,
            "files": [*(f"{name}.csv" for name in TABLES), "index.html"],
            "dataset": {"name": dataset.name, "test": len(test), "train": len(train)},
            "notes": notes,
            "provenance": made_with,
        }
        write_json(folder / MANIFEST, manifest)
    return result


def _chosen(dataset: Dataset, split: Any, count: int | None, seed: int) -> list[Item]:
    items = draw_sample(dataset.select(split), count, seed)
    if not items:
        raise DataError(f"{dataset.name} has no image in its {split} split; see: ttr data check")
    return items


def _measured(
    backbone: Backbone,
    neurons: RegisterNeurons,
    dataset: Dataset,
    train: list[Item],
    test: list[Item],
    counts: list[int],
    blocks: Sequence[int],
    seed: int,
    progress: bool,
    settings: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    """Return the five tables of one backbone."""
    found = study(
        backbone,
        neurons,
        OpenedImages(test, dataset.open),
        len(test),
        blocks=blocks,
        num_registers=counts,
        progress=progress,
        **settings,
    )
    known = _full_features(backbone, neurons, dataset, train, counts, settings["batch_size"])
    options: dict[str, Any] = {"groups": groups_of(test), "seed": seed}
    return {
        "integration": integration_table(found, backbone, **options),
        "changes": changes_table(found, backbone, **options),
        "accuracy": accuracy_table(found, backbone, known, dataset.targets(test), dataset.classes, **options),
        "layers": layers_table(found, backbone, **options),
        "registers": registers_table(found, backbone, **options),
    }


def _full_features(
    backbone: Backbone,
    neurons: RegisterNeurons,
    dataset: Dataset,
    items: list[Item],
    counts: list[int],
    batch_size: int,
) -> dict[int, Labelled]:
    """Return CLS after the final norm of the training images, with each number of registers."""
    rows: dict[int, list[np.ndarray]] = {registers: [] for registers in counts}
    for batch in batches(backbone, OpenedImages(items, dataset.open), batch_size):
        for registers in counts:
            if registers:
                with TestTimeRegisters(backbone, neurons, num_registers=registers):
                    cls = backbone.tokens(batch).cls
            else:
                cls = backbone.tokens(batch).cls
            assert isinstance(cls, torch.Tensor)
            rows[registers].append(cls.float().cpu().numpy())
    y = dataset.targets(items)
    return {registers: Labelled(np.concatenate(parts), y) for registers, parts in rows.items()}


def _notes(renormalise: bool, keep_skip: bool) -> list[str]:
    notes = ["R = 0 is the bare model. Registers are the trained and the test-time ones together."]
    if renormalise:
        notes.append("Kept attention weights were divided by their sum (--renormalise); published: not.")
    if keep_skip:
        notes.append("The skip connection was kept beside every part (--keep-skip); published: not.")
    return notes


def _about(backbone: Backbone, neurons: RegisterNeurons, counts: list[int]) -> list[str]:
    if not any(counts):
        return []
    if len(neurons):
        return [f"{backbone.name}: {counted(len(neurons), 'register neuron')} moved where R > 0."]
    return [f"{backbone.name}: no register neurons were found, so R > 0 appends blank tokens (a control)."]


def _page(result: Integration, dataset: Dataset, images: int, made_with: list[dict[str, Any]]) -> str:
    from markupsafe import Markup

    tables = result.tables
    shown = {**made_with[0], "backbones": [made["backbone"] for made in made_with]}
    del shown["backbone"]
    return fill(
        "integrate.html",
        dataset=dataset,
        images=images,
        counted=counted,
        notes=result.notes,
        warnings=list(dict.fromkeys(made["warning"] for made in made_with if made["warning"])),
        section=Markup(integration_section(tables["integration"])),
        changes=list(tables["changes"].to_dict("records")),
        accuracies=tables["accuracy"].to_dict("records"),
        path=cls_path(tables["layers"]),
        registers=tables["registers"].to_dict("records"),
        provenance=shown,
    )
