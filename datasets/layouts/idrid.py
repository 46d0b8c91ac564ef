"""IDRiD: fundus photographs from an Indian eye clinic, graded, and some with the outlines of lesions."""

from __future__ import annotations

from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset, require
from ttr.datasets.layouts.lesions import LesionMasks, outlined
from ttr.datasets.splits import complete
from ttr.datasets.tables.columns import class_label
from ttr.datasets.tables.files import read_table

CARD = Card(
    title="Indian Diabetic Retinopathy Image Dataset (IDRiD)",
    source="Porwal et al. 2018, Indian Diabetic Retinopathy Image Dataset (IDRiD), Data 3; challenge of "
    "ISBI 2018",
    licence="CC BY 4.0",
    classes="'idrid': grades 0 to 4, ordinal; 'idrid-lesions': pixels of microaneurysms, haemorrhages, hard "
    "and soft exudates, and background",
    metric="quadratic weighted kappa (qwk) for the grades; mIoU for lesions, which cover few pixels",
    problems="103 test images: one is 0.97 points; no patient identifiers, so both eyes of one patient may "
    "be in training and test; one camera; where lesions overlap the smaller kind counts; 81 outlined "
    "images, 27 of them for the test",
    how_to_get="IEEE DataPort and the challenge's page offer it.",
    layout="'B. Disease Grading' for idrid, and 'A. Segmentation' for idrid-lesions, as unpacked",
)
FOLDERS: dict[Split, str] = {"train": "a. Training Set", "test": "b. Testing Set"}
TABLES: dict[Split, str] = {
    "train": "a. IDRiD_Disease Grading_Training Labels.csv",
    "test": "b. IDRiD_Disease Grading_Testing Labels.csv",
}
PLACES = {
    **{"SE": "4. Soft Exudates", "EX": "3. Hard Exudates"},
    **{"HE": "2. Haemorrhages", "MA": "1. Microaneurysms"},
}


def idrid(root: Path, *, seed: int = 42) -> Dataset:
    """Read the grades with the published test set; validation is a stratified fifth of training.

    Raises:
        DataError: files are missing, or a table is not as described.
    """
    part = _part(root, "B. Disease Grading")
    items = []
    for split, name in TABLES.items():
        table = read_table(
            require(part, f"2. Groundtruths/{name}", CARD), ("image name", "retinopathy grade")
        )
        images = require(part, f"1. Original Images/{FOLDERS[split]}", CARD)
        for row in table.to_dict("records"):
            path = inside(images, f"{row['image name']}.jpg", name)
            label = class_label(row["retinopathy grade"], name)
            items.append(Item(path.relative_to(root).as_posix(), label, split, path))
    return make_dataset("idrid", complete(items, seed=seed), CARD, ordinal=True)


def idrid_lesions(root: Path, *, seed: int = 42) -> Dataset:
    """Read the outlined images with the published test set; validation is a fifth of training.

    Raises:
        DataError: files are missing.
    """
    part = _part(root, "A. Segmentation")
    folders = {split: require(part, f"1. Original Images/{name}", CARD) for split, name in FOLDERS.items()}
    items = outlined(root, folders)
    return make_dataset("idrid-lesions", complete(items, seed=seed), CARD, masks=LesionMasks(_mask).masks())


def _part(root: Path, name: str) -> Path:
    """Return the folder of a part, which archives put into one of the same name."""
    inner = root / name / name
    return inner if inner.is_dir() else require(root, name, CARD)


def _mask(item: Item, kind: str) -> Path:
    assert item.path is not None
    part, name = item.path.parents[2], f"{item.path.stem}_{kind}.tif"
    return part / "2. All Segmentation Groundtruths" / item.path.parent.name / PLACES[kind] / name
