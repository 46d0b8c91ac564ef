"""OrthoNet: radiographs of hip and knee implants, twelve models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Masks, Split, inside, make_dataset, require
from ttr.datasets.mask_files import open_foreground
from ttr.datasets.splits import complete
from ttr.datasets.tables.files import read_table

CARD = Card(
    title="OrthoNet",
    source="OrthoNet, classification of orthopaedic implants on radiographs; used by Kukade, Bansal (2025)",
    licence="as its distributor states; not redistributable here",
    classes="12 implant models (8 of the hip, 4 of the knee)",
    metric="accuracy (top1); the test set is balanced, 15 images a class",
    problems="180 test images: one image is 0.56 points, and differences of a few points are not "
    "distinguishable; no patient identifiers, so a patient may be in training and test; one paper calls it "
    "45 classes",
    how_to_get="It is offered for download by its authors; give the folder that you put it into as the root.",
    layout="train.csv and test.csv (columns filenames, labels, optional masks, valid_mask) and the images in "
    "'orthonet data/orthonet data/'",
)
IMAGES = ("orthonet data/orthonet data", "orthonet data")


def orthonet(root: Path, *, seed: int = 42) -> Dataset:
    """Read OrthoNet: the published test set; validation is a stratified fifth of training.

    The images with a valid mask make a segmentation task, implant against background.

    Raises:
        DataError: files are missing, or a table is not as described.
    """
    images = require(root, IMAGES, CARD)
    items = [*_items(root, images, "train"), *_items(root, images, "test")]
    masks = Masks(("background", "implant"), open_foreground)
    return make_dataset("orthonet", complete(items, seed=seed), CARD, masks=masks)


def _items(root: Path, images: Path, split: Split) -> Iterator[Item]:
    table = read_table(require(root, f"{split}.csv", CARD), ("filenames", "labels"))
    for row in table.to_dict("records"):
        where = f"{split}.csv"
        named = row.get("masks", "")
        has_mask = bool(named) and row.get("valid_mask", "true").lower() in {"true", "1", "1.0", "yes"}
        yield Item(
            name=row["filenames"],
            label=row["labels"],
            split=split,
            path=inside(images, row["filenames"], where),
            mask=inside(images, named, where) if has_mask else None,
        )
