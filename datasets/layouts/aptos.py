"""APTOS 2019: fundus photographs graded for diabetic retinopathy, 0 (none) to 4 (proliferative)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset, require
from ttr.datasets.splits import complete
from ttr.datasets.tables.columns import class_label
from ttr.datasets.tables.files import read_table

CARD = Card(
    title="APTOS 2019 Blindness Detection",
    source="Asia Pacific Tele-Ophthalmology Society, competition of 2019 (Aravind Eye Hospital)",
    licence="the competition's rules; not redistributable here",
    classes="grades 0 to 4, ordinal",
    metric="quadratic weighted kappa (qwk), the competition's own; accuracy is dominated by grade 0",
    problems="reported as 3,662 labelled images with duplicates among them, some with conflicting grades: "
    "run 'ttr data check'; no patient identifiers, so both eyes of one patient may be in training and test; "
    "several cameras, whose borders differ",
    how_to_get="The competition's page offers it after registration; a repacked version is in circulation.",
    layout="train.csv (id_code, diagnosis) and train_images/<id>.png, or train_1.csv, valid.csv, test.csv "
    "and {train,val,test}_images/{train,val,test}_images/<id>.png",
)
REPACKED: dict[Split, tuple[str, str]] = {
    "train": ("train_1.csv", "train_images"),
    "val": ("valid.csv", "val_images"),
    "test": ("test.csv", "test_images"),
}


def aptos(root: Path, *, seed: int = 42) -> Dataset:
    """Read APTOS 2019, as the competition gave it out (split here, stratified) or repacked (with its splits).

    Raises:
        DataError: files are missing, or a table is not as described.
    """
    if (root / "train_1.csv").exists():
        items = [item for split in REPACKED for item in _items(root, *REPACKED[split], split)]
    else:
        items = complete(list(_items(root, "train.csv", "train_images", "train")), seed=seed)
    return make_dataset("aptos", items, CARD, ordinal=True)


def _items(root: Path, table_name: str, folder: str, split: Split) -> Iterator[Item]:
    table = read_table(require(root, table_name, CARD), ("id_code", "diagnosis"))
    images = require(root, (f"{folder}/{folder}", folder), CARD)
    for row in table.to_dict("records"):
        path = inside(images, f"{row['id_code']}.png", table_name)
        yield Item(path.relative_to(root).as_posix(), class_label(row["diagnosis"], table_name), split, path)
