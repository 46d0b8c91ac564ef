"""A table on a terminal of any width: what does not fit beside each other stands below each other, whole."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

#: A number, or an interval of two: a reader must see it to its last digit.
NUMBER = re.compile(r"[+-]?\.?\d\S*$")
#: Characters of a line of text, at least.
TEXT = 12


def print_table(table: Table) -> None:
    """Print a table without cutting a cell: text folds; too many numbers for the width go a line each.

    In a file or a pipe, where nothing is cut at the right, it is as wide as that takes.
    """
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    least = [_least(column) for column in table.columns]
    needed = sum(least) + 3 * len(least) + 1
    if not console.is_terminal:
        console.width = max(console.width, needed)
    if needed > console.width:
        _print_below(table, console)
        return
    for wanted in (_words, _names):  # where there is room, words stay whole as well, and names on one line
        wider = [max(width, wanted(c)) for width, c in zip(least, table.columns, strict=True)]
        if sum(wider) + 3 * len(wider) + 1 <= console.width:
            least = wider
    for column, width in zip(table.columns, least, strict=True):
        column.min_width, column.overflow = width, "fold"
        # Only texts give way: what already is as narrow as its longest cell keeps its width.
        column.no_wrap = all(cell_len(str(cell)) <= width for cell in column.cells)
        if column.no_wrap:
            column.header = fill(str(column.header), max(width, 1))
    console.print(table)


def _least(column: Column) -> int:
    """Return how narrow a column may be: its numbers whole, and of each text and of its name a part."""
    from rich.cells import cell_len

    cells = [str(cell) for cell in column.cells]
    whole = [cell for cell in cells if column.no_wrap or NUMBER.match(cell)]
    widths = [cell_len(cell) if cell in whole else min(cell_len(cell), TEXT) for cell in cells]
    return max(*widths, 0, max(map(cell_len, str(column.header).split()), default=0))


def _names(column: Column) -> int:
    from rich.cells import cell_len

    return cell_len(str(column.header))


def _words(column: Column) -> int:
    from rich.cells import cell_len

    return max((cell_len(word) for cell in column.cells for word in str(cell).split()), default=0)


def _print_below(table: Table, console: Console) -> None:
    """Print a line a cell, below the first cell of its row."""
    if table.title:
        console.print(table.title, style="italic", soft_wrap=True)
    for first, *cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print(first, style="bold", soft_wrap=True)
        for column, cell in zip(table.columns[1:], cells, strict=True):
            if cell:
                console.print(f"    {column.header}: {cell}", soft_wrap=True)
