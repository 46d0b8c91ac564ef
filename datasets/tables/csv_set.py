"""Any set that a table describes: path, label, and if you have them group or patient, split, mask, box."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.base import Card, Dataset, Item, Masks, Split, inside, make_dataset
from ttr.datasets.mask_files import open_foreground
from ttr.datasets.splits import SPLIT_NAMES, complete
from ttr.datasets.tables.cells import boxes_of_cell
from ttr.datasets.tables.columns import (
    class_label,
    is_missing,
    roles,
    says_yes,
    unsure,
    whole_number,
    yes_or_no,
)
from ttr.datasets.tables.files import read_table
from ttr.datasets.tables.findings import Reported, one_label
from ttr.datasets.tables.paths import below_root, with_suffix
from ttr.errors import DataError
from ttr.wording import counted

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
    layout="a table with the columns path (or image, file, filename, image_id) and label (or diagnosis, "
    "class, target; or a column of 0 and 1 a class, or of 1, 0, -1 and none a finding), and if you have "
    "them group (or patient_id, pid), split (train, val, test), mask (a path) and box (left,top,right,bottom "
    "in pixels of the image, several with ; between them); paths are below the table's folder",
)


def csv_table(path: Path, *, seed: int = 42, finding: str | None = None) -> Dataset:
    """Read the set that a table describes; splits that are not there are made, by group where given.

    Args:
        path: the table.
        seed: of the splits.
        finding: where images have several labels, or a column of 0 and 1 each: this one against
            none of it; a cell without a value does not mention it, and -1 leaves it open.

    Raises:
        DataError: no such table, a column or a value is wrong, or a path leads out of the table's folder.
    """
    table = read_table(path, ())
    named = roles(table, str(path))
    if "path" not in named:
        said = ", ".join(table.columns)
        raise DataError(f"{path} has the columns {said}; needed path, label (path missing)")
    labels = _labels(table, named, path, finding)
    items, cut = _items(table, named, path)
    rows = [Reported(*each) for each in zip(items, labels.present, labels.unsure, strict=True)]
    labelled, left_out = one_label(rows, finding, labels.known, str(path))
    ignored = [name for name in table.columns if name not in {*named.values(), *labels.columns}]
    unused = f"columns that were not used: {', '.join(ignored)}" if ignored else ""
    blank = sum(map(is_missing, table[named["split"]])) if "split" in named else 0
    unsaid = f"{counted(blank, 'row')} without a split, taken as training" if blank else ""
    split = named.get("split", "split")
    taken = f"the column {split} taken as the split" if split != "split" else ""
    notes = tuple(each for each in (labels.said, *left_out, cut, taken, unsaid, unused) if each)
    masks = Masks(("background", "foreground"), open_foreground) if "mask" in named else None
    return make_dataset("csv", complete(labelled, seed=seed), CARD, masks=masks, notes=notes)


@dataclass(frozen=True)
class _Labels:
    """What the rows show and may show, all that any of them may, its columns, and what to know of it."""

    present: list[tuple[str, ...]]
    unsure: list[tuple[str, ...]]
    known: list[str]
    columns: list[str] = field(default_factory=list)
    said: str = ""


def _labels(table: DataFrame, named: dict[str, str], path: Path, finding: str | None) -> _Labels:
    columns = yes_or_no(table, named.values())
    called = table.attrs["called"]
    wanted = finding is not None and finding.casefold() in columns
    if "label" in named and not wanted:
        labels = [class_label(text, f"{path.name}, line {at}") for at, text in table[named["label"]].items()]
        return _from_cells(labels, path, finding)
    rows, open_ = (
        [tuple(called[name] for name in which(row, columns)) for row in table.to_dict("records")]
        for which in (says_yes, unsure)
    )
    known = [called[name] for name in columns]
    listed = ", ".join(known)
    if finding is None and (len(columns) < 2 or any(len(row) != 1 for row in rows)):
        how = f"its columns {listed} hold 1, 0 or none, and not each row has a single 1" if columns else ""
        hint = f" ({how}): choose one with --finding {known[0]}, or add a column label" if columns else ""
        columns_said = ", ".join(table.columns)
        raise DataError(f"{path} has the columns {columns_said}; needed path, label (label missing){hint}")
    said = "" if finding else f"labels are the columns with a 1: {listed}"
    return _Labels(rows, open_, known, columns, said)


def _from_cells(labels: list[str], path: Path, finding: str | None) -> _Labels:
    """Return what the cells of the label column name; several in one only where a finding was chosen."""
    single = {label for label in labels if "|" not in label}
    parted = [_parts(label, single) for label in labels]
    known = sorted({part for parts in parted for part in parts})
    if finding is not None:
        return _Labels(parted, [()] * len(parted), known)
    several = [label for label, parts in zip(labels, parted, strict=True) if len(parts) > 1]
    if several:
        raise DataError(
            f"{path} has {counted(len(several), 'row')} with several labels, such as {several[0]!r}; choose "
            f"one with --finding {_parts(several[0], single)[0]}, or leave these rows out"
        )
    return _Labels(parted, [()] * len(parted), known)


def _parts(label: str, single: set[str]) -> tuple[str, ...]:
    """Return the labels in a cell: between bars, or between ; or , where each stands alone elsewhere."""
    if "|" in label:
        return tuple(part.strip() for part in label.split("|") if part.strip())
    for separator in ";,":
        parts = tuple(part.strip() for part in label.split(separator))
        if len(parts) > 1 and set(parts) <= single:
            return parts
    return (label,)


def _items(table: DataFrame, named: dict[str, str], path: Path) -> tuple[list[Item], str]:
    """Return the images, still without labels, and what their paths were taken for, or nothing."""
    root = path.parent
    names, cut = below_root(list(table[named["path"]]), root, path.name)
    masks = [""] * len(names)
    if "mask" in named:
        given = ["" if is_missing(mask) else mask for mask in table[named["mask"]]]
        masks, _ = below_root(given, root, path.name)
    found = []
    rows = zip(table.index, table.to_dict("records"), names, masks, strict=True)
    for number, row, name, mask in rows:
        where = f"{path.name}, line {number}"
        file = with_suffix(inside(root, name, where))
        found.append(
            Item(
                name=file.relative_to(root).as_posix(),
                label="",
                split=_split(row[named["split"]], where) if "split" in named else "train",
                path=file,
                group=_group(row[named["group"]]) if "group" in named else None,
                mask=inside(root, mask, where) if mask else None,
                boxes=boxes_of_cell(row[named["box"]], where) if "box" in named else (),
            )
        )
    return found, cut


def _group(value: str) -> str | None:
    return None if is_missing(value) else whole_number(value)


def _split(value: str, where: str) -> Split:
    if is_missing(value):
        return "train"
    if value.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: split {value!r} is not known; needed train, val or test")
    return SPLIT_NAMES[value.lower()]
