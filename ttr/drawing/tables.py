"""Tables of a report: rows in named groups, cells that are ready to print.

Shares that are counted (accuracy, overlap) stand in per cent and their differences in points, in tables as in
charts; cosines, norms and probabilities of a test stand as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

NOTHING = "–"


class Cell(NamedTuple):
    """A cell: a number or words, the interval around it, whether it stands out, why it is empty."""

    text: str
    around: str = ""
    strong: bool = False
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        caption: what the numbers are.
        columns: names; the first is that of the rows' names.
        groups: (name, rows), a row a cell a column; a group without a name has no heading.
        words: columns of words, which stand at the left and may wrap.
        folded: whether the reader opens it.
    """

    caption: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[Cell | str]]]]
    words: Sequence[str] = ()
    folded: bool = False

    @property
    def length(self) -> int:
        """How many rows it has."""
        return sum(len(rows) for _, rows in self.groups)

    @property
    def breadth(self) -> str:
        """``few``, ``some`` or ``many`` columns: how much room they take before rows are folded."""
        count = len(self.columns)
        if count <= (3 if self.words else 4):
            return "few"
        return "some" if count <= 6 else "many"

    def __bool__(self) -> bool:
        """Whether there are rows."""
        return self.length > 0


def grouped(
    records: Iterable[Any], name: Callable[[Any], str], row: Callable[[Any], Sequence[Cell | str]]
) -> list[tuple[str, list[Sequence[Cell | str]]]]:
    """Return records as groups of rows, in the order in which a name is first met."""
    known: dict[str, list[Sequence[Cell | str]]] = {}
    for record in records:
        known.setdefault(name(record), []).append(row(record))
    return list(known.items())


def number(value: Any, pattern: str, low: Any = None, high: Any = None, scale: float = 1) -> Cell:
    """Return a number with its interval, a dash where there is none; ``scale``: 100 for per cent, points."""
    if _missing(value):
        return Cell(NOTHING)
    around = "" if _missing(low) else f"[{printed(low, pattern, scale)}, {printed(high, pattern, scale)}]"
    return Cell(printed(value, pattern, scale), around)


def percent(value: Any, low: Any = None, high: Any = None, pattern: str = "{:.1f}") -> Cell:
    """Return a share in per cent."""
    return number(value, pattern, low, high, 100)


def points(value: Any, low: Any = None, high: Any = None, pattern: str = "{:+.1f}") -> Cell:
    """Return a difference of shares in points."""
    return number(value, pattern, low, high, 100)


def of(row: Any, name: str, pattern: str, ends: tuple[str, str] | None = None) -> Cell:
    """Return a column of a row with its interval, ``name_low`` and ``name_high`` unless others are named."""
    low, high = ends or (f"{name}_low", f"{name}_high")
    get = row.get if isinstance(row, Mapping) else lambda key: getattr(row, key, None)
    return number(get(name), pattern, get(low), get(high))


def _missing(value: Any) -> bool:
    return value is None or value != value


def printed(value: float, pattern: str, scale: float = 1) -> str:
    """Return a number with a true minus; never a negative nothing."""
    text = pattern.format(scale * value)
    digits, unit, rest = text.partition(" ")
    if not digits.strip("+-0."):
        return f"{digits.lstrip('+-')}{unit}{rest}"
    return f"{digits.replace('-', '−')}{unit}{rest}"
