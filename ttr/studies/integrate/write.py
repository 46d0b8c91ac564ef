"""An integration as a folder: a labelled set and one or more backbones in, tables and a page out.

The folder holds ``integration.csv``, ``changes.csv``, ``accuracy.csv``, ``layers.csv`` (columns in
:mod:`ttr.studies.integrate.tables`), ``oneshot.csv`` (in :mod:`ttr.studies.integrate.oneshot_table`),
``registers.csv``, ``dimensions.csv``, ``shares.csv`` (in :mod:`ttr.studies.integrate.token_tables`),
``index.html`` and, written last, ``manifest.json``.
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
from ttr.datasets.registry import (
    Dataset,
    Item,
    ReadAhead,
    draw_sample,
    groups_of,
    require_classes,
    sampled_images,
)
from ttr.errors import DataError, OptionError
from ttr.evaluate.probe import Labelled
from ttr.features.extract import extract
from ttr.features.prepared import DETECTION_IMAGES, Prepared, found_neurons
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.registers.arms import PLAIN, Arm
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.integrate.oneshot_table import oneshot_table
from ttr.studies.integrate.page import page
from ttr.studies.integrate.parts import measure_parts
from ttr.studies.integrate.settings import IntegrationSettings
from ttr.studies.integrate.tables import (
    accuracy_table,
    changes_table,
    integration_table,
    layers_table,
)
from ttr.studies.integrate.token_tables import dimensions_table, registers_table, shares_table
from ttr.studies.provenance import provenance
from ttr.studies.schemas import INTEGRATION, result_folder
from ttr.wording import SEVERAL_REGISTERS, counted

#: Images a pass: every one is run again for each part and number of registers.
BATCH = 8
TABLES = (
    *("integration", "changes", "accuracy", "oneshot"),
    *("layers", "registers", "dimensions", "shares"),
)


@dataclass(frozen=True, eq=False)
class Integration:
    """What was measured.

    Attributes:
        tables: by name.
        notes: to read before them.
        skipped: images that were left out, and why.
        made_with: the provenance of each backbone.
        images: how many test images were read.
    """

    tables: dict[str, pd.DataFrame]
    notes: list[str]
    skipped: dict[str, str]
    made_with: list[dict[str, Any]]
    images: int


def write_integration(
    backbones: Sequence[str],
    load: Callable[[str], tuple[Backbone, RegisterNeurons | None]],
    dataset: Dataset,
    out: Path,
    settings: IntegrationSettings | None = None,
    run: Run | None = None,
) -> Integration:
    """Measure what CLS is made of and write the folder ``out``.

    Args:
        backbones: names, each once.
        load: name -> the bare backbone, and its register neurons (None: found on training images).
        dataset: the labelled set, with training and test images.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default, in batches of :data:`BATCH` images.

    Raises:
        TTRError: as the parts do, or ``out`` cannot be written.
    """
    settings, run = settings or IntegrationSettings(), run or Run(batch_size=BATCH)
    if not backbones or len(set(backbones)) != len(backbones):
        raise OptionError(f"backbones {', '.join(backbones) or 'none'}; needed one or more, each once")
    require_classes(dataset)
    chosen = {split: _chosen(dataset, split, settings.num_images, run.seed) for split in ("test", "train")}
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    made_with: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    notes = _notes(settings)
    with result_folder(out) as folder:
        for name in backbones:
            backbone, neurons = load(name)
            backbone.require_cls()
            run.check(backbone)
            if neurons is None:
                found_on = _found_neurons(backbone, dataset, settings, run)
                neurons, skipped = found_on.value, skipped | found_on.skipped
            notes += [*filter(None, [backbone.beside_cls]), *_about(backbone, neurons, settings.counts)]
            measured, left_out = _measured(backbone, neurons, dataset, chosen, settings, run)
            skipped |= left_out
            for table, rows in measured.items():
                found[table].append(rows)
            made_with.append(_made_with(backbone, neurons, dataset, settings, run))
        read = {split: sum(item.name not in skipped for item in items) for split, items in chosen.items()}
        tables = {name: pd.concat(rows) for name, rows in found.items()}
        result = Integration(tables, notes, skipped, made_with, read["test"])
        for name, table in result.tables.items():
            write_table(folder / f"{name}.csv", table)
        html = page(tables, dataset, made_with, notes, images=read["test"], skipped=skipped)
        write_text(folder / "index.html", html)
        manifest = {
            "schema": INTEGRATION,
            "files": [*(f"{name}.csv" for name in TABLES), "index.html"],
            "dataset": {"name": dataset.name, **read},
            "notes": notes,
            "provenance": made_with,
        }
        write_json(folder / MANIFEST, manifest | ({"skipped": skipped} if skipped else {}))
    return result


def _chosen(dataset: Dataset, split: Any, count: int | None, seed: int) -> list[Item]:
    items = draw_sample(dataset.select(split), count, seed)
    if not items:
        raise DataError(f"{dataset.name} has no image in its {split} split; see: ttr data check")
    return items


def _found_neurons(
    backbone: Backbone, dataset: Dataset, settings: IntegrationSettings, run: Run
) -> Prepared[RegisterNeurons]:
    """Return the neurons of a sample of training images, or none where no registers are asked for."""
    if not any(settings.counts):
        return Prepared(RegisterNeurons.from_pairs([]))
    return found_neurons(backbone, sampled_images(dataset, DETECTION_IMAGES, seed=run.seed), run)


def _measured(
    backbone: Backbone,
    neurons: RegisterNeurons,
    dataset: Dataset,
    chosen: dict[str, list[Item]],
    settings: IntegrationSettings,
    run: Run,
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the tables of one backbone, and the training and test images that could not be read."""
    reading = ReadAhead(dataset.opened(chosen["test"]), run)
    found = measure_parts(backbone, neurons, reading, settings, run)
    test = [item for item in chosen["test"] if item.name not in reading.skipped]
    known, known_groups, left_out = _full_features(
        backbone, neurons, dataset, chosen["train"], settings.counts, run
    )
    options: dict[str, Any] = {"groups": groups_of(test), "seed": run.seed}
    labels = dataset.targets(test)
    tables = {
        "integration": integration_table(found, backbone, **options),
        "changes": changes_table(found, backbone, **options),
        "accuracy": accuracy_table(
            found,
            backbone,
            known,
            labels,
            dataset.classes,
            train_groups=known_groups,
            **options,
        ),
        "oneshot": oneshot_table(found, backbone, known, labels, **options),
        "layers": layers_table(found, backbone, **options),
        "registers": registers_table(found, backbone, **options),
        "dimensions": dimensions_table(found, backbone),
        "shares": shares_table(found, backbone, [item.name for item in test]),
    }
    return tables, reading.skipped | left_out


def _full_features(
    backbone: Backbone,
    neurons: RegisterNeurons,
    dataset: Dataset,
    items: list[Item],
    counts: list[int],
    run: Run,
) -> tuple[dict[int, Labelled], tuple[str, ...] | None, dict[str, str]]:
    """Return CLS of the training images as it is given out, with each number of registers; their groups."""
    treatments = [Arm("ttr", neurons, count) if count else PLAIN for count in counts]
    found = extract(backbone, dataset, treatments, run, items=items)
    known = {
        count: Labelled(_given_out(backbone, each.arrays["cls"]), dataset.targets(each.items))
        for count, each in zip(counts, found, strict=True)
    }
    return known, groups_of(found[0].items), found[0].skipped


@torch.no_grad()
def _given_out(backbone: Backbone, cls: np.ndarray) -> np.ndarray:
    given = torch.from_numpy(cls).to(backbone.device, backbone.dtype)
    return backbone.given_out(given).float().cpu().numpy()


def _made_with(
    backbone: Backbone, neurons: RegisterNeurons, dataset: Dataset, settings: IntegrationSettings, run: Run
) -> dict[str, Any]:
    return provenance(
        backbone,
        dataset=dataset.name,
        blocks=list(settings.blocks),
        num_registers=settings.counts,
        variant=settings.variant,
        neurons=neurons.pairs,
        num_images=settings.num_images,
        seed=run.seed,
        renormalise=settings.renormalise,
        keep_skip=settings.keep_skip,
        batch_size=run.batch_size,
    )


def _notes(settings: IntegrationSettings) -> list[str]:
    notes = ["R = 0 is the bare model. Registers are the trained and the test-time ones together."]
    if max(settings.counts) > 1:
        notes.append(SEVERAL_REGISTERS)
    if settings.renormalise:
        notes.append("Kept attention weights were divided by their sum (--renormalise); published: not.")
    if settings.keep_skip:
        notes.append(
            "The skip connection was kept beside every part (--keep-skip); published: not. Faithfulness then "
            "counts what came through it as the patches' own."
        )
    return notes


def _about(backbone: Backbone, neurons: RegisterNeurons, counts: list[int]) -> list[str]:
    if not any(counts):
        return []
    if len(neurons):
        moved = counted(len(neurons), "register neuron")
        return [f"In {backbone.name} {moved} {'is' if len(neurons) == 1 else 'are'} moved where R > 0."]
    return [f"In {backbone.name} no register neurons were found, so R > 0 appends blank tokens (a control)."]
