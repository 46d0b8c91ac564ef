"""What a reproduction cannot measure: one cell gives way, the others stay, and each says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd

from ttr.errors import DataError, ImageError, ModelError

#: What makes one cell impossible and leaves the others as they are.
MISSING = (DataError, ImageError, ModelError)
T = TypeVar("T")


def attempt(step: Callable[..., T], *arguments: Any) -> T | str:
    """Return what ``step`` returns, or why it is impossible."""
    try:
        return step(*arguments)
    except MISSING as error:
        return str(error)


def reasons_by(table: pd.DataFrame, first: str, second: str) -> list[str]:
    """Return why cells are missing, each reason once with its cells: ``"kvasir (dino, mae): ..."``.

    Args:
        table: a reproduction, with a column ``missing``: "" where a cell was measured.
        first: the column whose names stand first, such as that of the sets.
        second: the column whose names stand in brackets, such as that of the models.
    """
    return [
        f"{', '.join(dict.fromkeys(part[first]))} ({', '.join(dict.fromkeys(part[second]))}): {reason}"
        for reason, part in table[table.missing != ""].groupby("missing", sort=False)
    ]
