"""Tables of results read back: the columns that a command wrote, each of its kind, of a bounded size.

A page must not show half of a result, nor a number that is none: whatever is not as it was written is refused
with the file's name.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from ttr.errors import DataError
from ttr.files import read_bytes

#: Bytes of a table, of its first line, and rows of one with a row an image, at most.
MOST, MOST_HEADER, MOST_ROWS = 64 << 20, 64 << 10, 20_000_000
#: Values of a column, and bytes of one when unpacked: a few kilobytes can say the same value a billion times.
MOST_VALUES, MOST_UNPACKED = 100_000_000, 1 << 30
#: Texts that a row may lack.
REMARKS = ("verdict", "reason", "warning", "family")
#: Numbers that tables of earlier versions lack.
LATER = (
    *("p_holm", "tests", "margin", "p_equivalent", "needed", "smallest_detectable"),
    *("js_of_mean", "js_of_mean_ci_low", "js_of_mean_ci_high"),
)
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
        for name in dict.fromkeys((*columns.numbers, *(name for name in LATER if name in table))):
            table[name] = _numbers(table[name])
        for name in columns.counts:
            table[name] = _counts(table[name])
        if table.duplicated([*columns.names, *(name for name in PLACES if name in columns.counts)]).any():
            raise ValueError("a row stands twice")
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        why = " ".join((getattr(error, "strerror", None) or str(error)).split())[:200]
        raise DataError(f"{path} is damaged ({why}); run {command} again") from error
    for name in set(REMARKS) & set(table):
        table[name] = table[name] if name == "reason" else table[name].fillna("")
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
    from pyarrow import compute

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
        _check_unpacked(file.metadata, columns)
    texts = [name for name, kind in columns.items() if kind == "text"]
    # Texts stay numbers of a dictionary until it is known how long they are together.
    with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read(list(columns))
    for name in texts:
        if _length(table.column(name)) > MOST_UNPACKED:
            raise ValueError(f"too much text in {name}")
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast(pyarrow.large_string()))
    for name, kind in columns.items():
        if kind != "number" and table.column(name).null_count:
            raise ValueError(f"a row without {name}")
        if kind != "text":
            found = table.column(name)
            _check_finite(name, compute.list_flatten(found) if kind == "numbers" else found)
    return table.to_pandas()


def _check_finite(name: str, values: Any) -> None:
    """Raise ValueError for an infinite number; a missing one is NaN."""
    from pyarrow import compute, types

    if types.is_floating(values.type) and compute.any(compute.is_inf(values)).as_py():
        raise ValueError(f"an infinite number in {name}")


def _check_unpacked(metadata: Any, columns: Mapping[str, Kind]) -> None:
    """Raise ValueError where a column says that it is larger than any result's."""
    values, unpacked = Counter[str](), Counter[str]()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name = column.path_in_schema.partition(".")[0]
            values[name] += column.num_values
            unpacked[name] += column.total_uncompressed_size
    for name in columns:
        if values[name] > MOST_VALUES or unpacked[name] > MOST_UNPACKED:
            raise ValueError(f"{name} is too large")


def _length(texts: Any) -> int:
    """Return the bytes of a column of texts that are numbers of a dictionary."""
    from pyarrow import compute

    lengths = (
        compute.sum(compute.take(compute.binary_length(each.dictionary), each.indices)).as_py()
        for each in texts.chunks
    )
    return sum(length or 0 for length in lengths)


def _is(found: Any, kind: Kind) -> bool:
    from pyarrow import types

    if kind == "text":
        return types.is_string(found) or types.is_large_string(found)
    if kind == "number":
        return types.is_floating(found) or types.is_integer(found)
    # An empty list in every row has a type of its own.
    return types.is_list(found) and (types.is_null(found.value_type) or _is(found.value_type, "number"))
