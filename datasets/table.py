"""Any set that a CSV table describes: path, label, and if you have them group or patient, split, mask."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset, read_text
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

#: Columns of a table, at most.
MOST_COLUMNS = 1000


def read_table(path: Path, columns: Sequence[str]) -> DataFrame:
    """Read a CSV file, every value as text; a row may lack its last values, which are empty then.

    Raises:
        DataError: it cannot be read, has no rows, lacks one of ``columns``, names one twice, or has a row
            that is longer than the first.
    """
    import pandas

    rows = _rows(path)
    names = [name.strip().lower() for name in next(rows, (0, []))[1]]
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(
            f"{path} has the columns {', '.join(names)}; needed {', '.join(columns)} "
            f"({', '.join(missing)} missing)"
        )
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        raise DataError(f"{path} has the column {twice[0]} twice; keep the one that counts")
    cells = []
    for line, row in rows:
        if any(each.strip() for each in row[len(names) :]):
            raise DataError(
                f"{path}, line {line}: {len(row)} values in {len(names)} columns; put a text that holds "
                'commas between "'
            )
        cells.append([each.strip() for each in row[: len(names)]] + [""] * (len(names) - len(row)))
    if not cells:
        raise DataError(f"{path} has no rows; needed one an image")
    return pandas.DataFrame(cells, columns=names, dtype=str)[[name for name in names if name]]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that hold anything, each with the number of its last line."""
    found = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    try:
        for row in found:
            if len(row) > MOST_COLUMNS:
                raise DataError(f"{path} has {len(row):,} columns; needed {MOST_COLUMNS:,} at most")
            if row:
                yield found.line_num, row
    except csv.Error as error:
        raise DataError(f"{path} is no CSV table that can be read ({error})") from error


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
