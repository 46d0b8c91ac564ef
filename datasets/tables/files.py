"""Tables as spreadsheets and archives give them out: any usual encoding and separator, values as text."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.base import MOST_TEXT
from ttr.errors import DataError
from ttr.files import read_bytes
from ttr.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

#: Columns of a table, at most.
MOST_COLUMNS = 1000
SEPARATORS = (",", ";", "\t", "|")
#: What other kinds of file begin with, which are given for a table; texts after any space.
OTHERS = {
    b"PK\x03\x04": "an Excel workbook or another packed file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind",
    b"PAR1": "Parquet",
    b"<": "a page of HTML or XML",
    b"{": "JSON",
    b"[": "JSON",
}
#: What no text of a table holds; a byte of another kind of file is soon among them.
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def read_table(path: Path, columns: Sequence[str]) -> DataFrame:
    """Read a table, every value as text; a row may lack its last values, which are empty then.

    Names of columns are lower case; ``attrs["called"]`` has them as they are written, and the index has the
    line of each row. Values lie between commas, semicolons, tabs or ``|``: what parts the first line best.

    Raises:
        DataError: it cannot be read, has no rows, lacks one of ``columns``, names one twice, or has a row
            that is longer than the first.
    """
    import pandas

    text = read_characters(path)
    separator = _separator(text)
    rows = _rows(path, text, separator)
    called = [name.strip() for name in next(rows, (0, []))[1]]
    names = [name.lower() for name in called]
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(
            f"{path} has the columns {', '.join(names)}; needed {', '.join(columns)} "
            f"({', '.join(missing)} missing)"
        )
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        raise DataError(f"{path} has the column {twice[0]} twice; keep the one that counts")
    cells, lines = [], []
    for line, row in rows:
        if any(each.strip() for each in row[len(names) :]):
            raise DataError(
                f"{path}, line {line}: {counted(len(row), 'value')} in {counted(len(names), 'column')}; "
                "put a text that holds "
                f'{"commas" if separator == "," else repr(separator)} between "'
            )
        cells.append([each.strip() for each in row[: len(names)]] + [""] * (len(names) - len(row)))
        lines.append(line)
    if not cells:
        raise DataError(f"{path} has no rows; needed one an image")
    table = pandas.DataFrame(cells, index=lines, columns=names, dtype=str)
    table = table[[name for name in names if name]]
    table.attrs["called"] = dict(zip(names, called, strict=True))
    return table


def read_characters(path: Path) -> str:
    """Return the text of a table: UTF-8 or UTF-16 as its mark says, UTF-8 without one, else Windows' cp1252.

    A file that ends in ``.csv.gz`` is unpacked, up to the size of any table.

    Raises:
        DataError: it cannot be read, is too large, or holds what no text does.
    """
    try:
        content = read_bytes(path, MOST_TEXT)
        if path.name.lower().endswith(".csv.gz") and content[:2] == b"\x1f\x8b":
            content = _unpacked(content)
        start = content[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
        if other := next((what for mark, what in OTHERS.items() if start.startswith(mark)), None):
            raise DataError(f"{path} is {other}, not a table of text; save it as CSV")
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = content.decode("utf-16")
        else:
            text = _eight_bits(content)
        if CONTROL.search(text):
            raise ValueError("it holds characters that no text does")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        plain = type(error) is ValueError
        why = error if plain else getattr(error, "strerror", None) or "no UTF-8, UTF-16 or cp1252"
        raise DataError(f"{path} is no text that can be read ({why}); needed a text file") from error
    return text


def _eight_bits(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _unpacked(content: bytes) -> bytes:
    with gzip.open(io.BytesIO(content)) as stream:
        unpacked = stream.read(MOST_TEXT + 1)
    if len(unpacked) > MOST_TEXT:
        raise ValueError(f"it unpacks to over {MOST_TEXT >> 20} MiB")
    return unpacked


def _separator(text: str) -> str:
    """Return what parts the first line best; of several the one that is named first in SEPARATORS."""
    first = next((line for line in text[: 1 << 20].splitlines() if line.strip()), "")
    said = re.fullmatch(r"\"?sep=(.)\"?", first.strip())  # which spreadsheets write ahead of the names
    if said:
        return said[1]
    return max(SEPARATORS, key=lambda each: first.count(each))


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that hold anything, each with the number of its last line."""
    found = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
    try:
        for row in found:
            if len(row) > MOST_COLUMNS:
                raise DataError(f"{path} has {counted(len(row), 'column')}; needed {MOST_COLUMNS:,} at most")
            if any(each.strip() for each in row) and not (found.line_num == 1 and row[0].startswith("sep=")):
                yield found.line_num, row
    except csv.Error as error:
        raise DataError(f"{path} is no CSV table that can be read ({error})") from error
