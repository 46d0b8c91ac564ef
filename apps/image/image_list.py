"""Many images, a line each: which maps to look at twice, the worst first. It has no widgets.

Of every image the numbers and a thumbnail stay and the pixels go, so that a folder of any size fits. A file
that cannot be read gets a line that says why, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.analysis.faithfulness import GRADES, grade
from ttr.apps.image.intake import take_in
from ttr.apps.image.plate import thumbnail_png
from ttr.errors import OptionError, TTRError

if TYPE_CHECKING:
    import pandas as pd

    from ttr.apps.image.case import Case
    from ttr.apps.image.workbench import Chosen, Workbench

MOST_FILES = 500
#: Spreadsheets take a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Line:
    """One image of a batch; a name is a column of the table and of the CSV file.

    Attributes:
        number: place among the files, from 1.
        file: its name.
        faithfulness_before: of the bare model's map, -1..1; None where the file was refused.
        faithfulness_after: of the map after the registers were moved.
        grade_after: the latter in words.
        max_patch_norm_before: largest patch norm at the last block.
        max_patch_norm_after: the same after.
        outliers_before: outlier patches.
        outliers_after: the same after.
        registers_hold: CLS attention that registers hold at the last block, 0..1.
        answer_before: the head's first class, "" without a head.
        answer_after: the same after.
        note: why the file was refused, or "".
    """

    number: int
    file: str
    faithfulness_before: float | None = None
    faithfulness_after: float | None = None
    grade_after: str = ""
    max_patch_norm_before: float | None = None
    max_patch_norm_after: float | None = None
    outliers_before: int | None = None
    outliers_after: int | None = None
    registers_hold: float | None = None
    answer_before: str = ""
    answer_after: str = ""
    note: str = ""


def lines(
    workbench: Workbench, files: Sequence[Path], chosen: Chosen, thumbnails: dict[int, bytes] | None = None
) -> Iterator[Line]:
    """Yield the line of each file, in their order, as each is done.

    ``thumbnails``: takes a small PNG of each image that could be read, by its line's number.

    Raises:
        OptionError: no files, or more than :data:`MOST_FILES`.
    """
    if not files:
        raise OptionError("no file was chosen; needed one image at least")
    if len(files) > MOST_FILES:
        raise OptionError(
            f"got {len(files)} files; needed {MOST_FILES} at most: use ttr compare for more than that"
        )
    small = {} if thumbnails is None else thumbnails
    return (_line(workbench, number, file, chosen, small) for number, file in enumerate(files, start=1))


def table(found: Sequence[Line]) -> pd.DataFrame:
    """Return lines as a table: refused files first, then the least faithful map after the move.

    By its word, then by its number: a map whose light lies elsewhere may have a high one.
    """
    import pandas as pd

    rows = pd.DataFrame([asdict(line) for line in found], columns=list(Line.__dataclass_fields__))
    place = [GRADES.index(word) if word in GRADES else -1 for word in rows["grade_after"]]
    order = rows.assign(place=place).sort_values(["place", "faithfulness_after"], kind="stable")
    return order.drop(columns="place").reset_index(drop=True)


def csv_of(rows: pd.DataFrame) -> bytes:
    """Return a table as CSV, full numbers; no cell is a formula to a spreadsheet."""
    safe = rows.copy()
    for column in ("file", "answer_before", "answer_after", "note"):
        safe[column] = [f"'{text}" if str(text).startswith(FORMULA) else text for text in safe[column]]
    return safe.to_csv(index=False, lineterminator="\n").encode()


def _line(
    workbench: Workbench, number: int, file: Path, chosen: Chosen, thumbnails: dict[int, bytes]
) -> Line:
    try:
        picture = take_in(file)
        thumbnails[number] = thumbnail_png(picture)
        return _measured(number, file.name, workbench.case(picture, chosen))
    except TTRError as error:
        return Line(number, file.name, note=str(error))


def _measured(number: int, name: str, case: Case) -> Line:
    before, after = case.inspection.comparison.before, case.inspection.comparison.after
    answers = ("", "") if case.answer is None else case.answer.first
    return Line(
        number,
        name,
        before.faithfulness,
        after.faithfulness,
        grade(after.trust),
        before.max_patch_norm,
        after.max_patch_norm,
        before.outlier_patches,
        after.outlier_patches,
        after.register_attention,
        *answers,
    )
