"""Boxes of a table, a row each, as the sets that have them give them out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ttr.datasets.base import Box
from ttr.errors import DataError


def boxes_of(
    rows: Iterable[Mapping[str, str]],
    columns: Sequence[str],
    where: str,
    *,
    label: str | None = None,
    sides: bool = True,
) -> dict[str, tuple[Box, ...]]:
    """Return {image: its boxes}; a row without numbers says that there is none.

    Args:
        rows: of the table.
        columns: of image, label, left, top, and width and height or, without ``sides``, right and bottom.
        where: the table, for messages.
        label: of all boxes, where no column has it.
        sides: whether the last two are width and height.

    Raises:
        DataError: a row has no four numbers, or a box without an area.
    """
    image, named, *numbers = columns
    found: dict[str, list[Box]] = defaultdict(list)
    for row in rows:
        texts = [row[name] for name in numbers]
        if not any(texts):
            continue
        try:
            left, top, third, fourth = map(float, texts)
        except ValueError:
            left = top = third = fourth = math.nan
        right, bottom = (left + third, top + fourth) if sides else (third, fourth)
        if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
            raise DataError(f"{where}: the box {', '.join(texts)} of {row[image]} is none; correct it")
        found[row[image]].append(Box(label or row[named], left, top, right, bottom))
    return {name: tuple(each) for name, each in found.items()}
