"""Tables of results read back: the columns that a command wrote, each of its kind, of a bounded size.

A page must not show half of a result, nor a number that is none: whatever is not as it was written is refused
with the file's name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from ttr.errors import DataError
from ttr.files import read_bytes

#: Bytes of a table, of its first line, and rows of one with a row an image, at most.
MOST, MOST_HEADER, MOST_ROWS = 64 << 20, 64 << 10, 20_000_000
#: Texts that a row may lack.
REMARKS = ("verdict", "reason")
#: Counts that say which row it is, not what was measured.
PLACES = ("block", "num_registers", "seed")
Kind = Literal["text", "number", "numbers"]


class Columns(NamedTuple):
    """What a CSV table must have.

    Attributes:
        names: columns that hold a text in every row.
        numbers: columns of finite numbers; a missing one is NaN.
        counts: columns that hold a whole number, 0 or more, in every row.
    """

    names: tuple[str, ...]
    numbers: tuple[str, ...]
    counts: tuple[str, ...] = ()


def read_columns(path: Path, columns: Columns, command: str = "ttr ablate") -> pd.DataFrame:
    """Read a CSV table; columns that are not asked for stay as they are.

    Args:
        path: a CSV file.
        columns: what it must have.
        command: what wrote it, for a refusal.

    Raises:
        DataError: it is no table with these columns and at least one row.
    """
    try:
        text = read_bytes(path, MOST).decode()
        _check_rows(text, [name for part in columns for name in part])
        texts = dict.fromkeys((*columns.names, *REMARKS), "str")
        table = pd.read_csv(io.StringIO(text), dtype=texts)
        if table.empty:
            raise ValueError("no rows")
        if table[list(columns.names)].isna().any(axis=None):
            raise ValueError("a row without a name")
        for name in columns.numbers:
            table[name] = _numbers(table[name])
        for name in columns.counts:
            table[name] = _counts(table[name])
        if table.duplicated([*columns.names, *(name for name in PLACES if name in columns.counts)]).any():
            raise ValueError("a row stands twice")
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        why = " ".join((getattr(error, "strerror", None) or str(error)).split())[:200]
        raise DataError(f"{path} is damaged ({why}); run {command} again") from error
    for name in set(REMARKS) & set(table):
        table[name] = table[name].fillna("") if name == "verdict" else table[name]
    return table


def _check_rows(text: str, needed: list[str]) -> None:
    """Raise ValueError unless the columns are there, each once, and every row has all of them."""
    if len(text.partition("\n")[0]) > MOST_HEADER:
        raise ValueError("its first line is too long for one of column names")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = next(rows, [])
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(f"no column {missing[0]}")
    if len(set(found)) != len(found):
        raise ValueError(f"column {next(name for name in found if found.count(name) > 1)} stands twice")
    if any(len(row) != len(found) for row in rows) or not text.endswith("\n"):
        raise ValueError("a row that is longer or shorter than the first")


def require_in_each(path: Path, table: pd.DataFrame, by: list[str], column: str, values: set[str]) -> None:
    """Raise DataError unless each group of rows has one with each of some values in a column."""
    for _, found in table.groupby(by)[column]:
        if lacking := values - set(found):
            raise DataError(f"{path} is damaged (no row of {min(lacking)}); make the result again")


def _numbers(column: pd.Series) -> pd.Series:
    if column.dtype == bool:
        raise ValueError(f"{column.name} holds no numbers")
    found = pd.to_numeric(column)
    if np.isinf(found.to_numpy(float)).any():
        raise ValueError(f"an infinite number in {column.name}")
    return found


def _counts(column: pd.Series) -> pd.Series:
    found = _numbers(column)
    values = found.to_numpy(float)
    if not ((values >= 0) & (values < 2**63) & (values == np.floor(values))).all():
        raise ValueError(f"something else than a whole number in {column.name}")
    return found.astype("int64")


def read_rows(path: Path, columns: Mapping[str, Kind], command: str) -> pd.DataFrame:
    """Read columns of a parquet table: texts, numbers, or a list of numbers in every row.

    Raises:
        DataError: it is not there, or no such table, or has no rows.
    """
    try:
        return _read_rows(path, columns)
    except Exception as error:  # pyarrow raises many kinds, none of them its own
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise DataError(f"{path} is damaged ({why}); run {command} again") from error


def _read_rows(path: Path, columns: Mapping[str, Kind]) -> pd.DataFrame:
    import pyarrow.parquet

    if not path.is_file():
        raise ValueError("no such file")
    with pyarrow.parquet.ParquetFile(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"no {missing[0]}")
        if not 0 < file.metadata.num_rows <= MOST_ROWS:
            raise ValueError("no rows" if file.metadata.num_rows == 0 else "too many rows")
        for name, kind in columns.items():
            if not _is(file.schema_arrow.field(name).type, kind):
                raise ValueError(f"{name} is of another type")
        table = file.read(list(columns))
    for name, kind in columns.items():
        if kind != "number" and table.column(name).null_count:
            raise ValueError(f"a row without {name}")
    return table.to_pandas()


def _is(found: Any, kind: Kind) -> bool:
    from pyarrow import types

    if kind == "text":
        return types.is_string(found) or types.is_large_string(found)
    if kind == "number":
        return types.is_floating(found) or types.is_integer(found)
    # An empty list in every row has a type of its own.
    return types.is_list(found) and (types.is_null(found.value_type) or _is(found.value_type, "number"))
