"""Masks as run lengths, packed into text as COCO packs them.

A mask is read column by column: so many pixels outside, so many inside, and on in turn. From the fourth run
on each is written as its difference from the run before the last, in groups of five bits from the lowest on,
each a character from "0" on, of which the sixth bit says that another group follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ttr.errors import ImageError

#: Pixels of a side; no radiograph has more.
MOST_PIXELS = 20_000
#: Groups of five bits of a run.
MOST_GROUPS = 7


def mask_of_runs(packed: Any, said: str) -> np.ndarray:
    """Return a mask, bool [H, W].

    Args:
        packed: ``{"size": [H, W], "counts": text}``.
        said: what it is, for messages.

    Raises:
        ImageError: it is none, or its runs do not fill it.
    """
    height, width, text = _parts(packed, said)
    runs = _runs(text, said)
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ImageError(
            f"{said} holds runs of {sum(runs):,} pixels; needed {height} x {width}: take the file anew"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape((height, width), order="F")


def _parts(packed: Any, said: str) -> tuple[int, int, str]:
    if isinstance(packed, dict) and set(packed) >= {"size", "counts"}:
        size, text = packed["size"], packed["counts"]
        sides = isinstance(size, list) and len(size) == 2 and all(type(each) is int for each in size)
        if sides and all(0 < each <= MOST_PIXELS for each in size) and isinstance(text, str):
            return size[0], size[1], text
    raise ImageError(f"{said} is no mask; needed size (height and width) and counts, a text of run lengths")


def _runs(text: str, said: str) -> list[int]:
    """Return the run lengths that a text packs."""
    runs: list[int] = []
    number = groups = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or groups == MOST_GROUPS:
            raise ImageError(f"{said} holds a character that packs no run length; take the file anew")
        number |= (bits & 31) << (5 * groups)
        groups += 1
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << (5 * groups)
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = groups = 0
    if groups:
        raise ImageError(f"{said} ends within a run length; take the file anew")
    return runs
