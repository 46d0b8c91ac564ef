"""ISIC: photographs of skin lesions, the challenges of 2018 (task 3), 2019 and 2020."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.base import Card, Dataset, Item, Masks, Split, inside, make_dataset, require
from ttr.datasets.mask_files import open_foreground
from ttr.datasets.splits import complete
from ttr.datasets.tables.columns import says_yes
from ttr.datasets.tables.files import read_table
from ttr.errors import DataError
from ttr.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

CARD = Card(
    title="ISIC challenges 2018 (task 3), 2019 and 2020",
    source="International Skin Imaging Collaboration: Tschandl et al. 2018 (HAM10000), Codella et al. 2018 "
    "and 2019, Hernández-Pérez et al. 2024 (BCN20000), Rotemberg et al. 2021 (2020)",
    licence="CC BY-NC 4.0, of single images as the archive states",
    classes="2018: 7 diagnoses, 2019: 8, 2020: benign and malignant",
    metric="balanced_accuracy, the challenges' own of 2018 and 2019; auc_ovr for 2020",
    problems="several photographs show one lesion: lesions are the groups of 2018 and 2019, where their "
    "table is there, and patients those of 2020; the years share images, so never train on one and test on "
    "another; 2020 has duplicates: run 'ttr data check'; rulers, ink and hair go with diagnoses",
    how_to_get="The archive's challenge page offers each year's images and tables.",
    layout="ISIC2018_Task3_Training_GroundTruth.csv (and Validation, Test, each also in a folder of its "
    "name) with ISIC2018_Task3_Training_Input/*.jpg, or ISIC_2019_Training_GroundTruth.csv with "
    "ISIC_2019_Training_Input/*.jpg, or ISIC_2020_Training_GroundTruth.csv (or train.csv) with train/*.jpg; "
    "and if you have them ISIC2018_Task3_Training_LesionGroupings.csv or ISIC_2019_Training_Metadata.csv, "
    "and outlines of lesions as <image>_segmentation.png in HAM10000_segmentations_lesion_tschandl or "
    "ISIC2018_Task1_Training_GroundTruth",
)
PARTS: dict[Split, str] = {"train": "Training", "val": "Validation", "test": "Test"}
#: Columns of weights, and the class that no training image has.
WEIGHTS, UNKNOWN = ("score_weight", "validation_weight"), "UNK"
TABLES_2020 = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv")


OUTLINES = ("HAM10000_segmentations_lesion_tschandl", "ISIC2018_Task1_Training_GroundTruth")


@dataclass(frozen=True)
class Year:
    """What the files of a challenge begin with, and the table that says which lesion an image shows."""

    prefix: str
    lesions: str


YEARS = (
    Year("ISIC2018_Task3", "ISIC2018_Task3_Training_LesionGroupings.csv"),
    Year("ISIC_2019", "ISIC_2019_Training_Metadata.csv"),
)


def isic(root: Path, *, seed: int = 42) -> Dataset:
    """Read the challenge whose files lie in a folder; splits whose labels are not there are made.

    Raises:
        DataError: none of them is there, or a table is not as described.
    """
    for year in YEARS:
        if (root / _table_of(root, year, "Training")).exists():
            return _diagnoses(root, year, seed)
    path = require(root, [f"{YEARS[0].prefix}_Training_GroundTruth.csv", *TABLES_2020], CARD)
    table = read_table(path, ("image_name", "patient_id", "benign_malignant"))
    images = require(root, ("train", "jpeg/train", "ISIC_2020_Training_JPEG/train"), CARD)
    items = [
        _item(root, images, row["image_name"], row["benign_malignant"], "train", row["patient_id"])
        for row in table.to_dict("records")
    ]
    return make_dataset("isic", complete(items, seed=seed), CARD, masks=_masks(items))


def _diagnoses(root: Path, year: Year, seed: int) -> Dataset:
    groups: dict[str, str] = {}
    if (root / year.lesions).is_file():
        lesions = read_table(root / year.lesions, ("image", "lesion_id"))
        groups = dict(zip(lesions["image"], lesions["lesion_id"], strict=True))
    items = [item for split in PARTS for item in _split(root, year, split, groups)]
    known = [item for item in items if item.label != UNKNOWN]
    left_out = len(items) - len(known)
    notes = (
        (f"{counted(left_out, 'image')} of no trained diagnosis ({UNKNOWN}) left out",) if left_out else ()
    )
    masks = _masks(known)
    return make_dataset("isic", complete(known, seed=seed), CARD, masks=masks, notes=notes, groups="lesions")


def _split(root: Path, year: Year, split: Split, groups: dict[str, str]) -> Iterator[Item]:
    name = _table_of(root, year, PARTS[split])
    if not (root / name).is_file():
        return
    table = read_table(root / name, ("image",))
    columns = [each for each in table.columns if each not in ("image", *WEIGHTS)]
    folder = f"{year.prefix}_{PARTS[split]}_Input"
    images = require(root, (f"{folder}/{folder}", folder), CARD)
    for row in table.to_dict("records"):
        label = _diagnosis(table, row, columns, name)
        yield _item(root, images, row["image"], label, split, groups.get(row["image"], ""))


def _table_of(root: Path, year: Year, part: str) -> str:
    name = f"{year.prefix}_{part}_GroundTruth"
    return f"{name}/{name}.csv" if (root / name).is_dir() else f"{name}.csv"


def _diagnosis(table: DataFrame, row: dict[str, str], columns: list[str], where: str) -> str:
    said = says_yes(row, columns)
    if len(said) != 1:
        raise DataError(f"{where}: {row['image']} has {len(said)} diagnoses; needed one")
    return str(table.attrs["called"][said[0]])


def _item(root: Path, images: Path, name: str, label: str, split: Split, group: str) -> Item:
    path = inside(images, f"{name}.jpg", CARD.title)
    outlines = (root / folder / f"{path.stem}_segmentation.png" for folder in OUTLINES)
    mask = next((each for each in outlines if each.is_file()), None)
    return Item(path.relative_to(root).as_posix(), label, split, path, group=group or None, mask=mask)


def _masks(items: list[Item]) -> Masks | None:
    return Masks(("background", "lesion"), open_foreground) if any(item.mask for item in items) else None
