"""MIMIC-CXR-JPG: chest radiographs of Beth Israel Deaconess with findings that were mined from reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.base import Card, Dataset, Item, inside, make_dataset, require
from ttr.datasets.splits import SPLIT_NAMES, complete
from ttr.datasets.tables.files import read_table
from ttr.datasets.tables.findings import Reported, one_label
from ttr.errors import DataError
from ttr.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

CARD = Card(
    title="MIMIC-CXR-JPG",
    source="Johnson et al. 2019, MIMIC-CXR-JPG, a large publicly available database of labeled chest "
    "radiographs; PhysioNet, version 2",
    licence="PhysioNet Credentialed Health Data License 1.5: credentialed access; nothing of it may be "
    "shared",
    classes="13 findings and No Finding, several a study: --finding NAME tells one from the rest, else the "
    "images of studies with exactly one are kept",
    metric="auc_ovr of one finding; balanced_accuracy, as findings are rare",
    problems="labels are the CheXpert labeler's, of a study's report: its images share them, frontal and "
    "lateral ones; uncertain (-1) is left out, and what a report does not mention counts as absent; "
    "published splits part patients; test labels are the labeler's, too",
    how_to_get="PhysioNet offers it after training and a signed agreement.",
    layout="mimic-cxr-2.0.0-split.csv and mimic-cxr-2.0.0-chexpert.csv (or .csv.gz) and the images in "
    "files/p10/p10000032/s50414267/<dicom_id>.jpg",
)
VALUES = {"1": True, "1.0": True, "0": False, "0.0": False, "": False, "-1": None, "-1.0": None}


def mimic(root: Path, *, seed: int = 42, finding: str | None = None) -> Dataset:
    """Read MIMIC-CXR-JPG with its published splits.

    Raises:
        DataError: files are missing or not as described, or no such finding.
    """
    table = _table(root, "chexpert", ("subject_id", "study_id"))
    columns = [name for name in table.columns if name not in ("subject_id", "study_id")]
    called = [table.attrs["called"][name] for name in columns]
    studies = dict(_studies(table, columns, called))
    images = _table(root, "split", ("dicom_id", "study_id", "subject_id", "split")).to_dict("records")
    reported = [
        Reported(_item(root, row), *studies[row["study_id"]]) for row in images if row["study_id"] in studies
    ]
    items, notes = one_label(reported, finding, called, CARD.title)
    unknown = len(images) - len(reported)
    unlabelled = (f"{counted(unknown, 'image')} of studies without labels left out",) if unknown else ()
    return make_dataset("mimic-cxr", complete(items, seed=seed), CARD, notes=notes + unlabelled)


def _table(root: Path, what: str, columns: tuple[str, ...]) -> DataFrame:
    names = [f"mimic-cxr-2.0.0-{what}.csv{packed}" for packed in ("", ".gz")]
    return read_table(require(root, names, CARD), columns)


def _studies(
    table: DataFrame, columns: list[str], called: list[str]
) -> Iterator[tuple[str, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Yield each study with what its report says is there, and what it is unsure of."""
    for row in table.to_dict("records"):
        strange = [row[name] for name in columns if row[name] not in VALUES]
        if strange:
            raise DataError(
                f"{CARD.title}: study {row['study_id']} says {strange[0]!r}; needed 1, 0, -1 or blank"
            )
        said = {name: VALUES[row[column]] for column, name in zip(columns, called, strict=True)}
        present = tuple(name for name, value in said.items() if value)
        yield row["study_id"], (present, tuple(name for name, value in said.items() if value is None))


def _item(root: Path, row: dict[str, str]) -> Item:
    subject, split = row["subject_id"], SPLIT_NAMES.get(row["split"].lower())
    if split is None:
        raise DataError(f"{CARD.title}: split {row['split']!r} is not known; needed train, validate or test")
    name = f"files/p{subject[:2]}/p{subject}/s{row['study_id']}/{row['dicom_id']}.jpg"
    return Item(name, "", split, inside(root, name, "mimic-cxr-2.0.0-split.csv"), group=subject)
