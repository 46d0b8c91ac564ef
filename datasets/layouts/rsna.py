"""RSNA Pneumonia Detection Challenge: chest radiographs as DICOM with boxes around lung opacities."""

from __future__ import annotations

from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, inside, make_dataset, require
from ttr.datasets.layouts.boxes import boxes_of
from ttr.datasets.splits import complete
from ttr.datasets.tables.files import read_table
from ttr.errors import DataError

CARD = Card(
    title="RSNA Pneumonia Detection Challenge",
    source="Shih et al. 2019, Augmenting the National Institutes of Health chest radiograph dataset with "
    "expert annotations of possible pneumonia, Radiology: Artificial Intelligence 1",
    licence="the challenge's rules, research and teaching; not redistributable here",
    classes="Normal, Lung Opacity and No Lung Opacity / Not Normal; without the table of classes, 0 and 1",
    metric="balanced_accuracy or auc_ovr",
    problems="images of ChestX-ray14: never train on one and test on the other; its patientId names an "
    "image and no patient, so that a patient may be in training and test; labels of the challenge's test "
    "images are not public, and all splits are made here",
    how_to_get="The challenge's page and RSNA offer it after registration.",
    layout="stage_2_train_labels.csv, stage_2_train_images/<patientId>.dcm and if you have it "
    "stage_2_detailed_class_info.csv",
)
BOXES = ("patientid", "target", "x", "y", "width", "height")


def rsna(root: Path, *, seed: int = 42) -> Dataset:
    """Read the challenge's training images; test and validation are stratified fifths.

    Raises:
        DataError: files are missing, or a table is not as described.
    """
    path = require(root, "stage_2_train_labels.csv", CARD)
    images = require(root, "stage_2_train_images", CARD)
    rows = read_table(path, BOXES).to_dict("records")
    boxes = boxes_of(rows, BOXES, path.name, label="Lung Opacity")
    labels = {row["patientid"]: row["target"] for row in rows}
    classes = root / "stage_2_detailed_class_info.csv"
    if classes.is_file():
        table = read_table(classes, ("patientid", "class"))
        named = dict(zip(table["patientid"], table["class"], strict=True))
        if missing := labels.keys() - named.keys():
            raise DataError(f"{classes.name} lacks {min(missing)} of {path.name}; needed every image")
        labels = {image: named[image] for image in labels}
    items = [
        Item(
            f"{images.name}/{image}.dcm",
            label,
            "train",
            inside(images, f"{image}.dcm", path.name),
            boxes=boxes.get(image, ()),
        )
        for image, label in labels.items()
    ]
    return make_dataset("rsna", complete(items, seed=seed), CARD)
