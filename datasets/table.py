"""Any set that a CSV table describes: path, label, and if you have them group or patient, split, mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset
from ttr.datasets.image_folder import SPLIT_NAMES
from ttr.datasets.splits import complete
from ttr.errors import DataError

if TYPE_CHECKING:
    from pandas import DataFrame

CARD = Card(
    title="CSV table",
    source="your own images, DICOM files among them",
    licence="yours",
    classes="the labels of its training rows",
    metric="accuracy (top1), or balanced_accuracy where classes differ in size",
    problems="without a group or patient column, images of one patient may stand in training and test",
    how_to_get="Write one row an image.",
    layout="a table with the columns path and label, and if you have them group (or patient), split "
    "(train, val, test) and mask; paths are below the table's folder",
)


def read_table(path: Path, columns: Sequence[str]) -> DataFrame:
    """Read a CSV file, every value as text.

    Raises:
        DataError: it cannot be read, has no rows, or lacks one of ``columns``.
    """
    import pandas

    try:
        table = pandas.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no CSV table that can be read ({type(error).__name__})") from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} has the columns {', '.join(table.columns)}; needed {', '.join(columns)} "
            f"({', '.join(missing)} missing)"
        )
    if not len(table):
        raise DataError(f"{path} has no rows; needed one an image")
    return table.apply(lambda column: column.str.strip())


def csv_table(path: Path, *, seed: int = 42) -> Dataset:
    """Read the set that a CSV table describes; splits that are not there are made, by group where given.

    Raises:
        DataError: no such table, a column or a value is wrong, or a path leads out of the table's folder.
    """
    table = read_table(path, ("path", "label"))
    return make_dataset("csv", complete(list(_items(table, path)), seed=seed), CARD)


def _items(table: DataFrame, path: Path) -> Iterator[Item]:
    root = path.parent
    for number, row in enumerate(table.to_dict("records"), start=2):
        where = f"{path.name}, line {number}"
        if not row["label"]:
            raise DataError(f"{where}: the label is empty; label the image, or leave it out")
        yield Item(
            name=row["path"],
            label=row["label"],
            split=_split(row.get("split", ""), where),
            path=inside(root, row["path"], where),
            group=row.get("group") or row.get("patient") or None,
            mask=inside(root, row["mask"], where) if row.get("mask") else None,
        )


def _split(value: str, where: str) -> Split:
    if not value:
        return "train"
    if value.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: split {value!r} is not known; needed train, val or test")
    return SPLIT_NAMES[value.lower()]
