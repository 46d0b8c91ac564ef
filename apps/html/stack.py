"""A stack as HTML: what moves through its slices, and what the browser knows of each before it fetches it."""

from __future__ import annotations

from typing import Any

from ttr.apps.image.plate import own_way, reduced_by, shown_window, spacing_of, step_of, unit_of
from ttr.apps.image.stack import Slice, Stack
from ttr.datasets.dicom.radiograph import Window
from ttr.drawing.html import fill
from ttr.wording import counted, shortened

#: Frames a second of a film that recommends none.
RATE = 10.0


def stack(found: Stack, index: int, window: Window | None, place: str) -> str:
    """Return the bar over a stack as HTML.

    Args:
        found: the stack.
        index: the slice that is shown first.
        window: in which all slices are shown; None: each in its first.
        place: where its pictures are fetched.
    """
    data = {
        "image": found.identity,
        "place": place,
        "shown": index,
        "rate": found.rate or RATE,
        "slices": [_slice(found, number, window) for number in range(len(found.slices))],
    }
    said = f"{counted(len(found.slices), 'image')}, {found.order}."
    return fill(
        "app_stack.html", data=data, count=len(found.slices), shown=index + 1, rate=data["rate"], said=said
    )


def _slice(found: Stack, index: int, window: Window | None) -> dict[str, Any]:
    """Return what the browser knows of a slice, JSON values: all but its pixels."""
    each = found.slices[index]
    reduced, behind = reduced_by(each.size), each.radiograph
    return {
        "id": found.part(index).identity(window),
        "name": shortened(each.name),
        "size": each.size,
        "reduced": reduced,
        "spacing": spacing_of(behind),
        "values": None if behind is None or behind.values.ndim == 3 else _values(each, window, reduced),
    }


def _values(each: Slice, window: Window | None, reduced: int) -> dict[str, Any]:
    behind = each.radiograph
    assert behind is not None
    return {
        "low": behind.range[0],
        "step": step_of(behind, reduced),
        "window": shown_window(behind, window),
        "inverted": behind.inverted,
        "unit": unit_of(behind),
        "own": own_way(behind, window),
    }


def choice(labels: list[str], files: int) -> str:
    """Return in a sentence that files of several series were given, as HTML; nothing for one series."""
    if len(labels) < 2:
        return ""
    said = f"{counted(files, 'file').capitalize()} of {len(labels)} series were given together; one is shown."
    return fill("app_said.html", said=said)
