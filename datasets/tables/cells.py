"""What single cells of somebody's table hold, beyond a word or a number."""

from __future__ import annotations

import re

from ttr.datasets.base import Box
from ttr.datasets.tables.columns import is_missing
from ttr.errors import DataError


def boxes_of_cell(text: str, where: str) -> tuple[Box, ...]:
    """Return the boxes ``left,top,right,bottom`` in a cell, several with ; between; an empty cell has none.

    Spaces serve as well as commas, brackets are let be, and a box is of its image's own label.

    Raises:
        DataError: a box has no four numbers, or no area.
    """
    if is_missing(text):
        return ()
    boxes = []
    for part in filter(None, (part.strip(" []()") for part in text.split(";"))):
        numbers = re.split(r"[\s,]+", part)
        try:
            left, top, right, bottom = map(float, numbers)
            sound = 0 <= left < right < float("inf") and 0 <= top < bottom < float("inf")
        except ValueError:
            sound = False
        if not sound:
            raise DataError(
                f"{where}: box {part!r} is none; needed left,top,right,bottom in pixels from 0 on, "
                "with an area"
            )
        boxes.append(Box("", left, top, right, bottom))
    return tuple(boxes)
