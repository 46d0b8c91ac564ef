"""What the columns of somebody's table are for, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ttr.datasets.splits import SPLIT_NAMES
from ttr.errors import DataError

if TYPE_CHECKING:
    from pandas import DataFrame

#: {what a column is for: the names it may have, ours first}.
ROLES: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "image", "file", "filename", "filenames", "file_name", "filepath", "file_path", "img"),
        *("image_path", "img_path", "image_file", "image_name", "image_id", "image_index", "id_code"),
    ),
    "label": (
        *("label", "labels", "diagnosis", "class", "class_name", "target", "category", "grade", "dx"),
        *("finding", "findings", "finding_labels"),
    ),
    "group": (
        *("group", "patient", "patient_id", "patientid", "subject", "subject_id", "subjectid"),
        *("participant", "participant_id", "person", "person_id", "pid"),
    ),
    "mask": ("mask", "masks", "mask_path", "mask_file", "segmentation"),
    "box": ("box", "boxes", "bbox", "bboxes", "bounding_box", "bounding_boxes"),
    "split": ("split",),
}
#: Columns that are the split where every value of them is the name of one.
PERHAPS_SPLIT = ("set", "subset", "partition", "phase", "usage", "fold")
#: Values of a column that says of one finding whether an image shows it.
YES, NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})
#: Of a report that leaves it open whether the image shows the finding.
UNSURE = frozenset({"-1", "-1.0"})
#: What programs write into a cell that has no value.
MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "none", "null"})


def roles(table: DataFrame, where: str) -> dict[str, str]:
    """Return {what for: name of the column} for those that a table has.

    Our own name counts before any other.

    Raises:
        DataError: two columns may be for the same thing, and neither has our name for it.
    """
    plain = {re.sub(r"[\s-]+", "_", name): name for name in table.columns}
    found: dict[str, str] = {}
    for role, known in ROLES.items():
        here = [plain[name] for name in known if name in plain]
        if len(here) > 1 and here[0] != role:
            raise DataError(
                f"{where} has the columns {' and '.join(here[:2])}, and either may be the {role}; call the "
                f"one that counts {role!r}"
            )
        found |= {role: here[0]} if here else {}
    if "split" not in found:
        may_be = [plain[name] for name in PERHAPS_SPLIT if name in plain and _splits(table[plain[name]])]
        may_be = may_be[:1] or [
            name for name in table.columns if name not in found.values() and _splits(table[name])
        ]
        if len(may_be) > 1:
            raise DataError(
                f"{where} has the columns {' and '.join(may_be[:2])}, and either may be the split; call the "
                "one that counts 'split'"
            )
        found |= {"split": may_be[0]} if may_be else {}
    return found


def is_missing(text: str) -> bool:
    """Return whether a cell has no value, or a word that programs write for none."""
    return text.strip().lower() in MISSING


def _splits(values: Iterable[str]) -> bool:
    """Return whether cells name splits, one or more, and nothing else."""
    words = {value.lower() for value in values if not is_missing(value)}
    return bool(words) and words <= SPLIT_NAMES.keys()


def yes_or_no(table: DataFrame, used: Iterable[str]) -> list[str]:
    """Return the columns, those in use aside, that say of images whether they show a finding.

    Cells that have no value do not mention it, and -1 leaves it open.
    """
    found = []
    for name in table.columns:
        said = {value.lower() for value in table[name] if not is_missing(value)}
        if name not in set(used) and said & (YES | NO) and said <= YES | NO | UNSURE:
            found.append(name)
    return found


def says_yes(row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return which of some columns of :func:`yes_or_no` say yes in a row."""
    return tuple(name for name in columns if row[name].lower() in YES)


def unsure(row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return which of some columns of :func:`yes_or_no` leave it open in a row."""
    return tuple(name for name in columns if row[name].lower() in UNSURE)


def class_label(text: str, where: str) -> str:
    """Return a label; whole numbers are written alike, as spreadsheets turn 1 into 1.0 beside a blank.

    Raises:
        DataError: it is empty or a word for that, or a number between two classes.
    """
    if is_missing(text):
        said = f" ({text!r} stands for none; a class needs another name)" if text.strip() else ""
        raise DataError(f"{where}: the label is empty{said}; label the image, or leave it out")
    whole = whole_number(text)
    if re.fullmatch(r"-?\d+[.,]\d*", whole):
        raise DataError(f"{where}: label {text!r} is no class; needed whole numbers or names")
    return whole


def whole_number(text: str) -> str:
    """Return a whole number as it is without decimals, which spreadsheets add; any other text as it is."""
    number = re.fullmatch(r"(-?\d+)[.,]0*", text)
    return number[1] if number else text
