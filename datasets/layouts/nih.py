"""NIH ChestX-ray14: frontal chest radiographs with findings that were mined from reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset, read_text, require
from ttr.datasets.layouts.boxes import boxes_of
from ttr.datasets.splits import complete
from ttr.datasets.tables.files import read_table
from ttr.datasets.tables.findings import Reported, one_label
from ttr.errors import DataError

CARD = Card(
    title="NIH ChestX-ray14",
    source="Wang et al. 2017, ChestX-ray8: hospital-scale chest X-ray database and benchmarks, CVPR; the "
    "NIH Clinical Center",
    licence="open for use with attribution to the NIH Clinical Center and a citation; not redistributed here",
    classes="14 findings and No Finding, several an image: --finding NAME tells one from the rest, else the "
    "images with exactly one are kept",
    metric="auc_ovr of one finding, the published one; balanced_accuracy, as findings are rare",
    problems="labels were mined from reports; their authors expect nine of ten to be right, and a "
    "radiologist found fewer (Oakden-Rayner 2020); chest drains stand beside treated pneumothoraces; "
    "published splits part patients, and validation is made of whole patients here; boxes of 984 findings, "
    "which call infiltration Infiltrate",
    how_to_get="The NIH Clinical Center offers it for download, twelve archives of images and the tables.",
    layout="Data_Entry_2017_v2020.csv (or Data_Entry_2017.csv), train_val_list.txt, test_list.txt, the "
    "images in images/ or images_001/images/ to images_012/images/, and if you have it BBox_List_2017.csv",
)
LISTS: dict[Split, str] = {"train": "train_val_list.txt", "test": "test_list.txt"}
BOXES = ("image index", "finding label", "bbox [x", "y", "w", "h]")


def nih(root: Path, *, seed: int = 42, finding: str | None = None) -> Dataset:
    """Read ChestX-ray14 with its published test split; validation is a fifth of the training patients.

    Raises:
        DataError: files are missing or not as described, or no such finding.
    """
    reported = list(_reported(root))
    known = {each for row in reported for each in row.present}
    items, notes = one_label(reported, finding, known, CARD.title)
    return make_dataset("nih", complete(items, seed=seed), CARD, notes=notes)


def _reported(root: Path) -> Iterator[Reported]:
    path = require(root, ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), CARD)
    table = read_table(path, ("image index", "finding labels", "patient id"))
    splits = {
        name: split for split, each in LISTS.items() for name in read_text(require(root, each, CARD)).split()
    }
    folders = [
        folder for folder in (root / "images", *sorted(root.glob("images_*/images"))) if folder.is_dir()
    ]
    lies = {file.name: file for folder in folders for file in folder.iterdir()}
    boxes = _boxes(root / "BBox_List_2017.csv")
    for row in table.to_dict("records"):
        name = row["image index"]
        if name not in splits:
            raise DataError(f"{path.name}: {name} is in neither {' nor '.join(LISTS.values())}")
        file = lies.get(name) or inside(root, f"images/{name}", path.name)
        item = Item(
            file.relative_to(root).as_posix(),
            "",
            splits[name],
            file,
            group=row["patient id"],
            boxes=boxes.get(name, ()),
        )
        yield Reported(item, tuple(part for part in row["finding labels"].split("|") if part))


def _boxes(path: Path) -> dict:
    return boxes_of(read_table(path, BOXES).to_dict("records"), BOXES, path.name) if path.is_file() else {}
