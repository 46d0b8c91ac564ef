"""Maps over a picture as a viewer's HTML: the numbers go to the browser, which paints them (``viewer.js``).

So zoom, window, opacity, scale, contours and the pointer's numbers cost no request. A picture is sent once,
in a place of its own, and every view of it names it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ttr.apps.image.case import Case
from ttr.apps.image.framing import Frame
from ttr.apps.image.plate import Plate
from ttr.digests import sha256
from ttr.drawing.html import fill
from ttr.drawing.maps import png_uri
from ttr.drawing.regions import BOX, CONTOURS, DECADES, ticks
from ttr.wording import shortened

SIDES = (("before", "Before", "bare model"), ("after", "After", "registers moved"))
ORIGINAL = ("original", "Original", "nothing planted")
ABSENT = "the bare model has no such token"


@dataclass(frozen=True)
class Scale:
    """What the colours of maps mean.

    Attributes:
        colour_map: a matplotlib name.
        label: what the scale's numbers are.
        bounds: (lowest, highest) of a scale for all maps; None: from 0 to the maps' maximum.
        around: whether the colours run from a middle in both directions, so that the middle is transparent.
        at_least: how far the scale for all maps reaches whatever they hold: the maximum of maps elsewhere.
    """

    colour_map: str
    label: str
    bounds: tuple[float, float] | None = None
    around: bool = False
    at_least: float = 0.0


@dataclass(frozen=True)
class Beside:
    """A number of each patch that the pointer tells beside the map's own.

    Attributes:
        name: what it is, short.
        maps: [rows, columns] of each side, None where there is none.
    """

    name: str
    maps: list[np.ndarray | None]


@dataclass(frozen=True)
class Heads:
    """The attention of a query to each patch by head, for the loupe.

    Attributes:
        query: whose attention.
        maps: [heads, rows, columns] of each side, None where there is none.
    """

    query: str
    maps: list[np.ndarray | None]


@dataclass(frozen=True)
class View:
    """Maps side by side over one picture.

    Attributes:
        title: what they are, for a screen reader.
        name: of the map's numbers, short, for the pointer.
        maps: [rows, columns] before and after, of the original ahead of them; None where there is none. With
            no ``scale`` they are colours, uint8 [rows, columns, 3].
        alts: each map in words.
        scale: what the colours mean, or None.
        beside: what else the pointer tells.
        heads: what the loupe tells, or None.
        mark: (left, top, right, bottom) of a part to frame, in shares of what the model saw, 0..1.
        over: a picture with transparency to lay over all of the picture, as a data URI, or "".
        at: (block, what the maps of all blocks are called), of maps that :mod:`ttr.apps.html.blocks` sends of
            every block; else None.
    """

    title: str
    name: str
    maps: list[np.ndarray | None]
    alts: list[str]
    scale: Scale | None = None
    beside: tuple[Beside, ...] = ()
    heads: Heads | None = None
    mark: tuple[float, float, float, float] | None = None
    over: str = ""
    at: tuple[int, str] | None = None


def view(case: Case, shown: View, *, with_picture: bool = False) -> str:
    """Return maps over the picture of a case as HTML.

    ``with_picture``: send the picture along, where it is none that the page holds already.
    """
    frame = case.inspection.frame
    sides = [
        {"tag": tag, "name": name, "note": note, "alt": alt, "is_there": values is not None}
        for (tag, name, note), values, alt in zip(
            named_sides(shown), shown.maps, alts_by_side(shown), strict=True
        )
    ]
    data = _data(case, shown)
    return fill(
        "app_view.html",
        title=shown.title,
        file=shortened(case.picture.name),
        sides=sides,
        data=data,
        absent=ABSENT,
        width=case.picture.image.width,
        height=case.picture.image.height,
        box=_box(frame),
        mark=None if shown.mark is None else _box(frame.part(*shown.mark)),
        over=shown.over,
        whole=frame.whole,
        is_scaled=shown.scale is not None,
        picture=picture_data(case.plate) if with_picture else None,
    )


def named_sides(shown: View) -> tuple[tuple[str, str, str], ...]:
    """Return (tag, name, note) of each side of a view."""
    return SIDES if len(shown.maps) == len(SIDES) else (ORIGINAL, *SIDES)


def alts_by_side(shown: View) -> list[str]:
    """Return each side of a view in words."""
    return [f"{name}: {alt}" for (_, name, _), alt in zip(named_sides(shown), shown.alts, strict=True)]


def picture_data(plate: Plate) -> dict[str, Any]:
    """Return a picture as the browser's ``<ttr-picture>`` takes it, JSON values."""
    behind = plate.values
    return {
        "id": plate.identity,
        "uri": _uri(plate.png),
        "size": plate.size,
        "reduced": plate.reduced,
        "spacing": plate.spacing,
        "values": None
        if behind is None
        else {
            "uri": _uri(behind.png),
            "low": behind.low,
            "step": behind.step,
            "window": behind.window,
            "inverted": behind.inverted,
            "unit": behind.unit,
            "own": behind.own,
        },
    }


def _data(case: Case, shown: View) -> dict[str, Any]:
    """Return what a view paints, JSON values."""
    there = [values for values in shown.maps if values is not None]
    rows, columns = there[0].shape[:2]
    frame, part = case.inspection.frame, case.picture.slice
    found: dict[str, Any] = {
        "picture": case.identity,
        "image": part.stack if part is not None else case.picture.sha256,
        "slice": None if part is None else part.index,
        "frame": [frame.left, frame.top, frame.right, frame.bottom],
        "grid": [rows, columns],
        "with": sha256([repr((shown.mark, shown.alts)).encode(), shown.over.encode()])[:16],
        "name": shown.name,
        "sides": [name for _, name, _ in named_sides(shown)],
        "alts": alts_by_side(shown),
        "at": shown.at,
        "beside": [{"name": each.name, "maps": floats(each.maps)} for each in shown.beside],
        "heads": None
        if shown.heads is None
        else {"query": shown.heads.query, "maps": floats(shown.heads.maps)},
    }
    if shown.scale is None:
        return {**found, "colours": [None if each is None else png_uri(each) for each in shown.maps]}
    return {**found, "maps": floats(shown.maps), "scale": _scale(shown.scale, shown.maps)}


def _scale(scale: Scale, maps: list[np.ndarray | None]) -> dict[str, Any]:
    """Return a scale as the browser takes it, JSON values."""
    return {
        "lut": _lut(scale.colour_map),
        "label": scale.label,
        "is_fixed": scale.bounds is not None,
        "around": scale.around,
        "contours": CONTOURS,
        "box": BOX,
        "decades": DECADES,
        **scale_ends(scale, maps),
    }


def scale_ends(scale: Scale, maps: list[np.ndarray | None]) -> dict[str, Any]:
    """Return the ends of a scale for all maps and of one for each, with the numbers along it."""
    highs = [0.0 if values is None else float(values.max()) for values in maps]
    ends = [(0.0, max(*highs, scale.at_least)), *((0.0, high) for high in highs)]
    if scale.bounds is not None:
        ends = [scale.bounds] * len(ends)
    all_, *own = (
        {"low": low, "high": high, "ticks": ticks(low, high), "log_ticks": ticks(low, high, log=True)}
        for low, high in ends
    )
    return {"shared": all_, "own": own}


@cache
def _lut(colour_map: str) -> str:
    """Return the 256 colours of a map, three bytes each, in base64."""
    import matplotlib

    colours = matplotlib.colormaps[colour_map](np.arange(256))[:, :3]
    return base64.b64encode((255 * colours).round().astype(np.uint8).tobytes()).decode()


def floats(maps: list[np.ndarray | None]) -> list[str | None]:
    """Return maps as the browser takes them: float32 in base64, None where there is none."""
    return [
        None
        if values is None
        else base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
        for values in maps
    ]


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _box(frame: Frame) -> dict[str, float]:
    """Return a part of a picture in percent, for a style."""
    width, height = frame.right - frame.left, frame.bottom - frame.top
    shares = {"left": frame.left, "top": frame.top, "width": width, "height": height}
    return {key: round(100 * value, 3) for key, value in shares.items()}


def peak(values: np.ndarray) -> str:
    """Return in words where a map is largest."""
    row, column = np.unravel_index(values.argmax(), values.shape)
    rows, columns = values.shape
    return (
        f"largest {values.max():.3g} in row {row + 1} of {rows}, column {column + 1} of {columns}, "
        f"median {np.median(values):.3g}"
    )
