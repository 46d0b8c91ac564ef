"""Numbers of a study as a reader of it types them: a table, to stand in the published column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ttr.datasets.tables.files import read_table
from ttr.errors import DataError

#: Of the column with the numbers, in per cent.
VALUE = "value"


def read_transcribed(path: Path, known: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], float]:
    """Return {a value of each key: the number, 0..1} of a table in per cent.

    Args:
        path: a table with a column a key, and ``value``.
        known: {key: its values}, in the order of the result's keys.

    Raises:
        DataError: it cannot be read, or a row is of no cell of the study, stands twice, or is no number of
            0 to 100; or all are 1 or less, as shares are.
    """
    table = read_table(path, (*known, VALUE))
    found: dict[tuple[str, ...], float] = {}
    for line, row in table.iterrows():
        where = f"{path}, line {line}"
        for key, values in known.items():
            if row[key] not in values:
                raise DataError(f"{where}: {key} {row[key]!r}; the study has {', '.join(values)}")
        place = tuple(row[key] for key in known)
        if place in found:
            raise DataError(f"{where}: {', '.join(place)} stands twice; keep the row that is right")
        found[place] = _per_cent(row[VALUE], where)
    if max(found.values()) <= 1:
        raise DataError(f"{path}: all numbers are 1 or less, as shares are; needed per cent, 0 to 100")
    return {place: value / 100 for place, value in found.items()}


def _per_cent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise DataError(f"{where}: value {text!r}; needed per cent, a number of 0 to 100")
    return value
