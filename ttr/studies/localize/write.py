"""A localisation as a folder: a labelled set with outlines and a backbone in, tables and a page out.

The folder holds ``localisation.csv``, ``localisation_sizes.csv``, ``localisation_pairs.csv`` and
``images.csv``, on request ``curves.csv`` (columns in :mod:`ttr.studies.localize.tables`), ``sanity.csv`` and
``complexity.csv`` (:mod:`ttr.studies.localize.sanity`), ``discovery.csv`` and ``discovery_pairs.csv``
(:mod:`ttr.studies.localize.discovery`), ``index.html`` and, written last, ``manifest.json`` with everything
that is needed to repeat it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, Outlines, Split, require_classes, sampled_images
from ttr.errors import DataError
from ttr.evaluate.probe import labelled
from ttr.features.extract import extract
from ttr.features.prepared import CALIBRATION_IMAGES, DETECTION_IMAGES, calibrated_bias, found_neurons
from ttr.features.trained import trained
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.registers.arms import PLAIN, Arm, arms
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.localize import tables
from ttr.studies.localize.asked import OWN, TEXT, Asked, OfHead, OfModel, OfTexts, right
from ttr.studies.localize.discovery import corloc, discover, pairs, told
from ttr.studies.localize.localisation import Localisation, localise
from ttr.studies.localize.looking import Looker
from ttr.studies.localize.page import page
from ttr.studies.localize.pictures import cards, shown_arms
from ttr.studies.localize.sanity import flagged, sanity
from ttr.studies.localize.sentences import answer, warnings_of
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.provenance import provenance
from ttr.studies.schemas import LOCALISATION, result_folder
from ttr.wording import counted

#: Arms that edit no neuron, for which none is looked for.
WITHOUT_NEURONS = {"plain", "token"}


@dataclass(frozen=True, eq=False)
class Localised:
    """What was measured, and what is said of it.

    Attributes:
        found: image by image.
        tables: {file name: table}.
        answer: one sentence.
        notes: what must be said beside it.
        flagged: maps that stay alike whatever the model learned, a sentence each.
    """

    found: Localisation
    tables: dict[str, pd.DataFrame]
    answer: str
    notes: list[str]
    flagged: list[str]


def write_localisation(
    backbone: Backbone,
    dataset: Dataset,
    neurons: RegisterNeurons | None,
    out: Path,
    settings: LocalisationSettings | None = None,
    run: Run | None = None,
) -> Localised:
    """Hold every arm's maps against the outlines of a set's test images, and write the folder ``out``.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set, with masks or boxes.
        neurons: its register neurons; None: found on a seeded sample of the training images, if need be.
        out: folder to make; an earlier result is replaced.
        settings: what is measured; None: the default.
        run: how; None: the default.

    Raises:
        TTRError: as the parts do, a set without outlines, a set of one class for methods that ask for one,
            or ``out`` cannot be written.
    """
    settings, run = settings or LocalisationSettings(), run or Run()
    run.check(backbone)
    Outlines.of(dataset).required("test")
    with result_folder(out) as folder:
        asked, known = _asked(backbone, dataset, settings, run) if settings.asks_for_classes else (None, None)
        treatments = _arms(backbone, dataset, neurons, settings, run)
        looker = Looker(backbone, dataset, treatments, settings.methods, asked)
        found = localise(looker, run, settings.num_images, blanks=settings.curves, boxes=settings.boxes)
        made, flags = _tables(looker, found, settings, run)
        for name, table in made.items():
            write_table(folder / name, table)
        made_with = provenance(backbone, **_recorded(settings), **run.only("seed", "batch_size", "on_error"))
        notes = [
            *dataset.notes,
            *found.notes,
            *([] if known is None else [known]),
            *warnings_of(found, settings.margin),
        ]
        if settings.discovery:
            notes.append(told(made["discovery.csv"]))
        said_of_it = answer(made["localisation.csv"], made["localisation_pairs.csv"])
        result = Localised(found, made, said_of_it, notes, flags)
        html = page(
            found,
            made,
            dataset,
            settings,
            made_with,
            answer=said_of_it,
            notes=notes,
            flagged=flags,
            cards=cards(looker, found, run),
        )
        write_text(folder / "index.html", html)
        write_json(folder / MANIFEST, _manifest(result, dataset, treatments, made_with))
    return result


def _asked(
    backbone: Backbone, dataset: Dataset, settings: LocalisationSettings, run: Run
) -> tuple[Asked, str]:
    """Return what all arms are asked for classes with, and how often it is right on the bare model.

    Raises:
        DataError: one class, or no training or validation image.
        ModelError: no classifier, none of the set's classes, or no text tower.
    """
    require_classes(dataset)
    asked: Asked | None = None
    if settings.head == OWN:
        asked, name = OfModel.of(backbone), "the model's own classifier"
    elif settings.head == TEXT:
        asked, name = OfTexts.of(backbone, dataset.classes, settings.prompt), "the nearest text"
    splits: tuple[Split, ...] = ("train", "val") if asked is None else ("val",)
    items = [item for split in splits for item in dataset.select(split)]
    found = extract(backbone, dataset, [PLAIN], run, items=items)[0]
    for split in splits:
        if not any(item.split == split for item in found.items):
            raise DataError(f"{dataset.name} has no readable image in its {split} split; see: ttr data check")
    vectors = {split: labelled(dataset, found.items, found.arrays["embedding"], split) for split in splits}
    val = vectors["val"]
    if asked is None:
        made = (vectors["train"], val, dataset.classes, run.seed)
        asked, name = OfHead(trained(run.shelves, settings.head, *made)), f"the {settings.head} head"
    share = right(asked, val.x, val.y, dataset.classes)
    images = counted(len(val.y), "validation image")
    return asked, f"{name} whose classes are asked for is right on {100 * share:.0f} % of {images}"


def _tables(
    looker: Looker, found: Localisation, settings: LocalisationSettings, run: Run
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return every table by its file's name, and which maps are flagged."""
    made = {
        "localisation.csv": tables.localisation(found),
        "localisation_sizes.csv": tables.by_size(found),
        "localisation_pairs.csv": tables.differences(found, margin=settings.margin, seed=run.seed),
        "images.csv": tables.by_image(found),
    }
    flags = []
    if settings.curves:
        made["curves.csv"] = tables.curves(found)
    if settings.sanity:
        shown = [next(arm for arm in looker.arms if arm.kind == name) for name in shown_arms(found)]
        forgets = sanity(looker, found.items, shown, run)
        made |= {"sanity.csv": forgets.cascade, "complexity.csv": forgets.complexity}
        flags = flagged(forgets)
    if settings.discovery:
        objects = discover(looker, found.items, run)
        made["discovery.csv"] = corloc(objects)
        made["discovery_pairs.csv"] = pairs(objects, margin=settings.margin, seed=run.seed)
    return made, flags


def _arms(
    backbone: Backbone,
    dataset: Dataset,
    neurons: RegisterNeurons | None,
    settings: LocalisationSettings,
    run: Run,
) -> list[Arm]:
    """Return the arms, with neurons found where none are given and some are needed."""
    if neurons is None and set(settings.arms) <= WITHOUT_NEURONS:
        neurons = RegisterNeurons.from_pairs([])
    if neurons is None:
        sample = sampled_images(dataset, DETECTION_IMAGES, seed=run.seed)
        neurons = found_neurons(backbone, sample, run).value
    bias = None
    if "attention-bias" in settings.arms:
        sample = sampled_images(dataset, CALIBRATION_IMAGES, seed=run.seed)
        bias = calibrated_bias(backbone, neurons, sample, run).value
    return arms(
        settings.arms,
        backbone,
        neurons,
        num_registers=settings.num_registers,
        draws=settings.draws,
        seed=run.seed,
        bias=bias,
        variant=settings.variant,
    )


def _recorded(settings: LocalisationSettings) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in vars(settings).items()
    }


def _manifest(
    result: Localised, dataset: Dataset, treatments: list[Arm], made_with: dict[str, Any]
) -> dict[str, Any]:
    found = result.found
    return {
        "schema": LOCALISATION,
        "files": [*result.tables, "index.html"],
        "answer": result.answer,
        "notes": result.notes,
        "flagged": result.flagged,
        "dataset": {
            "name": dataset.name,
            "classes": list(dataset.classes),
            "images": {"test": len(found.items)},
            "grouped": found.groups is not None,
            "skipped": found.skipped,
            "notes": list(dataset.notes),
            "card": asdict(dataset.card),
        },
        "thresholds": [
            {"arm": arm, "method": method, "threshold": at} for (arm, method), at in found.thresholds.items()
        ],
        "arms": [arm.to_json() for arm in treatments],
        "provenance": made_with,
    }
