"""CheXlocalize: radiologists' outlines of ten findings on CheXpert's validation and test radiographs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ttr.datasets.base import (
    Card,
    Dataset,
    Item,
    Masks,
    Split,
    inside,
    make_dataset,
    read_text,
    require,
)
from ttr.datasets.run_lengths import mask_of_runs
from ttr.datasets.splits import complete
from ttr.datasets.tables.columns import says_yes
from ttr.datasets.tables.files import read_table
from ttr.datasets.tables.findings import Reported, one_label
from ttr.errors import DataError

CARD = Card(
    title="CheXlocalize",
    source="Saporta et al. 2022, Benchmarking saliency methods for chest X-ray interpretation, Nature "
    "Machine Intelligence 4; images of CheXpert, Irvin et al. 2019",
    licence="Stanford University Dataset Research Use Agreement: for research, nothing of it may be shared",
    classes="10 findings, several an image: --finding NAME tells one from the rest, else the images with "
    "exactly one are kept",
    metric="pointing game and IoU of maps (ttr localize); auc_ovr of one finding",
    problems="a training split of its own is not part of it: CheXpert's 234 validation images serve as that, "
    "four fifths for training, so heads are weak; two radiologists drew the outlines",
    how_to_get="Stanford AIMI offers it after a signed agreement.",
    layout="CheXpert/val_labels.csv, CheXpert/test_labels.csv, the images in CheXpert/val/<patient>/<study>/"
    "<view>.jpg and CheXpert/test/..., CheXlocalize/gt_segmentations_val.json and gt_segmentations_test.json",
)
FINDINGS = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema"),
    *("Consolidation", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices"),
)
COLUMNS = tuple(name.lower() for name in FINDINGS)
#: What the outlines of a finding may be filed under instead: the labels' table has a name of its own for it.
ALSO = {"Lung Opacity": "Airspace Opacity"}
#: What is here called which of its splits.
PARTS: dict[Split, str] = {"train": "val", "test": "test"}


@dataclass(frozen=True, eq=False)
class Segmentations:
    """Outlines by image and finding, as the files pack them.

    Attributes:
        packed: {patient_study_view: {finding: size and run lengths}}.
    """

    packed: dict[str, dict[str, Any]] = field(repr=False)

    def covers(self, item: Item) -> bool:
        """Return whether the finding of an item was outlined in it."""
        return self._packed(item) is not None

    def open(self, item: Item) -> np.ndarray:
        """Return where the finding of an item is, int64 [H, W], 0 or 1.

        Raises:
            ImageError: it is no mask.
        """
        return mask_of_runs(self._packed(item), f"the mask of {item.name}").astype(np.int64)

    def _packed(self, item: Item) -> Any:
        """Return what is packed of an item's finding, None where it was not outlined."""
        findings = self.packed.get("_".join(Path(item.name).with_suffix("").parts[-3:]), {})
        return findings.get(item.label, findings.get(ALSO.get(item.label, "")))


def chexlocalize(root: Path, *, seed: int = 42, finding: str | None = None) -> Dataset:
    """Read CheXlocalize: its validation images are training and validation here, its test images the test.

    Raises:
        DataError: files are missing or not as described, or no such finding.
    """
    reported = [row for split in PARTS for row in _reported(root, split)]
    items, notes = one_label(reported, finding, FINDINGS, CARD.title)
    packed = {name: each for split in PARTS for name, each in _packed(root, PARTS[split]).items()}
    held = Segmentations(packed)
    masks = Masks(("background", "finding"), held.open, held.covers)
    return make_dataset("chexlocalize", complete(items, seed=seed), CARD, masks=masks, notes=notes)


def _reported(root: Path, split: Split) -> Iterator[Reported]:
    part = PARTS[split]
    path = require(root, (f"CheXpert/{part}_labels.csv", f"{part}_labels.csv"), CARD)
    table = read_table(path, ("path", *COLUMNS))
    for row in table.to_dict("records"):
        # The table's paths begin as CheXpert's own do, wherever its images lie here.
        patient, *rest = row["path"].split("/")[-3:]
        name = "/".join(("CheXpert", part, patient, *rest))
        item = Item(name, "", split, inside(root, name, path.name), group=patient)
        said = says_yes(row, COLUMNS)
        yield Reported(item, tuple(name for name in FINDINGS if name.lower() in said))


def _packed(root: Path, part: str) -> dict[str, dict[str, Any]]:
    path = require(
        root, (f"CheXlocalize/gt_segmentations_{part}.json", f"gt_segmentations_{part}.json"), CARD
    )
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is damaged: it cannot be read as JSON; take it anew") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise DataError(f"{path.name} is not as described; needed an image's findings under its name")
    return found
