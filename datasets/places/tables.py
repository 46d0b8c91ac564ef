"""The paths that a table lists, CSV or Parquet, below the folder or the address of its images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ttr.datasets.base import inside
from ttr.datasets.places.listing import Listing
from ttr.datasets.tables.columns import ROLES, is_missing
from ttr.datasets.tables.files import read_table
from ttr.datasets.tables.paths import below_root, with_suffix
from ttr.errors import DataError
from ttr.wording import counted

PARQUET = ".parquet"
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", PARQUET)
#: Bytes of the column of paths, unpacked, at most.
MOST_UNPACKED = 4 << 30


def table_listing(table: Path, column: str | None, root: str | None) -> Listing:
    """Return the images that a table lists, each once, in its order.

    Args:
        table: the file.
        column: that holds the paths; None: the one that has a usual name for it.
        root: folder that they are below; None: the table's own.

    Raises:
        DataError: no such table or column, a row without a path, or a path that leads out of the folder.
    """
    paths = read_paths(table, column)
    folder = Path(root) if root else table.parent
    names, cut = below_root(paths, folder, table.name)
    unique = dict.fromkeys(names)
    found = Listing(str(folder), notes=tuple(filter(None, (cut, _said(len(paths) - len(unique))))))
    for number, name in enumerate(unique, start=1):
        file = with_suffix(inside(folder, name, f"{table.name}, path {number}"))
        found.add(file.relative_to(folder).as_posix())
    return found


def remote_table_listing(table: Path, column: str | None, address: str, root: str) -> Listing:
    """Return the same for images on another file system, below ``address``, which it calls ``root``."""
    paths = read_paths(table, column)
    unique = dict.fromkeys(path.replace("\\", "/") for path in paths)
    for path in unique:
        if re.match(r"/|[A-Za-z]:|\w+:/", path) or ".." in path.split("/") or not path.isprintable():
            raise DataError(f"{table.name}: path {path!r} is not allowed; needed paths below {address}")
    said = _said(len(paths) - len(unique))
    found = Listing(root, address, notes=(said,) if said else ())
    for name in unique:
        found.add(name)
    return found


def _said(again: int) -> str:
    rows = counted(again, "row")
    return f"{rows} of the table name an image that an earlier row names; each is taken once" if again else ""


def read_paths(table: Path, column: str | None) -> list[str]:
    """Return the column of paths of a table.

    Raises:
        DataError: no such table or column, or a row without a path.
    """
    read = _of_parquet if table.name.lower().endswith(PARQUET) else _of_text
    paths = read(table, column)
    empty = next((row for row, path in enumerate(paths, start=1) if is_missing(path)), None)
    if empty:
        raise DataError(f"{table} has no path in row {empty:,}; fill it in, or leave the row out")
    return paths


def _of_text(table: Path, column: str | None) -> list[str]:
    found = read_table(table, [column.lower()] if column else [])
    return found[_chosen(table, list(found.columns), column and column.lower())].tolist()


def _of_parquet(table: Path, column: str | None) -> list[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(table) as file:
            chosen = _chosen(table, file.schema_arrow.names, column)
            kind = file.schema_arrow.field(chosen).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise DataError(f"{table}: column {chosen} holds {kind}; needed texts, the paths of images")
            place = file.schema_arrow.names.index(chosen)
            groups = [file.metadata.row_group(each) for each in range(file.metadata.num_row_groups)]
            size = sum(group.column(place).total_uncompressed_size for group in groups)
            if file.metadata.num_columns != len(file.schema_arrow.names) or size > MOST_UNPACKED:
                raise DataError(
                    f"{table} has columns within columns, or over {MOST_UNPACKED >> 30} GiB of paths; save "
                    "the paths alone"
                )
            paths = file.read([chosen]).column(0).to_pylist()
    except DataError:
        raise
    except Exception as error:  # pyarrow raises many kinds, none of them its own
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise DataError(f"{table} is no Parquet table that can be read ({why}); save it anew") from error
    return ["" if path is None else path for path in paths]


def _chosen(table: Path, columns: Sequence[str], column: str | None) -> str:
    """Return the column that was asked for, or the first that has a usual name for paths."""
    wanted = [column] if column else list(ROLES["path"])
    plain = {re.sub(r"[\s-]+", "_", name.lower()): name for name in columns}
    found = next(
        (name if name in columns else plain[name] for name in wanted if name in {*columns, *plain}), ""
    )
    if not found:
        said = column or "path"
        raise DataError(
            f"{table} has the columns {', '.join(columns)}; needed {said} ({said} missing): name the one "
            "that holds the paths with --path-column"
        )
    return found
