"""What the page shows, as HTML: maps on a stated scale, numbers beside them. No widgets.

A map is sent as the small picture it is, a pixel a patch, and the browser enlarges it: choosing another block
or head costs a few kilobytes and no pass of a model.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttr.analysis.faithfulness import grade
from ttr.apps.image.case import Case
from ttr.apps.image.framing import Frame
from ttr.drawing.html import bar, fill
from ttr.drawing.maps import ATTENTION_MAP, NORM_MAP, colourise, png_uri
from ttr.studies.compare.page import CHECKS, QUANTITIES, rows
from ttr.wording import DISCLAIMER, percent, shortened

SIDES = (("before", "Before", "bare model"), ("after", "After", "registers moved"))
ORIGINAL = ("original", "Original", "nothing planted")


@dataclass(frozen=True)
class Look:
    """How the maps are looked at.

    Attributes:
        layer: block, 0..L-1.
        head: attention head, or None for their mean.
        query: token whose attention is shown.
        smooth: enlarge smoothly, or show each patch as a square.
        shared: one colour scale for both maps, or one each.
    """

    layer: int
    head: int | None = None
    query: str = "CLS"
    smooth: bool = False
    shared: bool = True


def attention(case: Case, look: Look) -> str:
    """Return the attention maps before and after as HTML.

    Raises:
        OptionError: no such block, head or query.
    """
    found = case.inspection
    found.check(look.layer, look.head, look.query)
    maps = [run.attention_map(look.layer, look.head, look.query) for run in found.shown]
    shares = [run.register_share(look.layer, look.head, look.query) for run in found.shown]
    which = "mean of the heads" if look.head is None else f"head {look.head}"
    what = f"attention of {look.query}, block {look.layer}, {which}"
    alts = [
        f"{what}: {peak(values)}; registers hold {share:.0%}"
        if values is not None and share is not None
        else f"{what}: there is no such token"
        for values, share in zip(maps, shares, strict=True)
    ]
    label = f"share of the attention of {look.query} on one patch"
    drawn = pair(case, "Attention before and after", maps, alts, Scale(ATTENTION_MAP, label, "{:.3f}"), look)
    return drawn + _likeness(found.likeness(look.layer, look.head, look.query))


def norms(case: Case, look: Look) -> str:
    """Return the norm maps before and after as HTML; head and query do not matter."""
    maps = [run.norm_map(look.layer) for run in case.inspection.shown]
    alts = [f"patch norms, block {look.layer}: {peak(values)}" for values in maps]
    label = "norm (length) of a patch's token"
    return pair(case, "Patch norms before and after", maps, alts, Scale(NORM_MAP, label, "{:.0f}"), look)


def colours(case: Case, look: Look) -> str:
    """Return the patches at the last block as colours, before and after, as HTML."""
    pictures = [run.colours for run in case.inspection.shown]
    alts = ["patches at the last block as colours; equal colours are like features"] * len(pictures)
    return _figures(case, "Patch colours before and after", pictures, alts, look.smooth)


def _likeness(cosines: tuple[float, float] | None) -> str:
    """Return how like the original's the maps are as HTML; nothing where there is no original."""
    if cosines is None:
        return ""
    before, after = (f"<strong>{value:.3f}</strong>" for value in cosines)
    said = f"Cosine of the map with the original’s: before {before}, after {after}."
    return f'<p class="ttr-likeness">{said}</p>'


def numbers(case: Case) -> str:
    """Return the numbers, warnings and answers beside the maps as HTML."""
    before, after = case.inspection.comparison.before, case.inspection.comparison.after
    graded = [
        (tag, name, view.faithfulness, grade(view.trust))
        for (tag, name, _), view in zip(SIDES, (before, after), strict=True)
    ]
    moved = [row for row in rows([before], [after], QUANTITIES) if "faithfulness" not in row.label]
    return fill(
        "app_numbers.html",
        case=case,
        grades=graded,
        checks=rows([before], [after], CHECKS),
        rows=moved,
        percent=percent,
        disclaimer=DISCLAIMER,
    )


def message(text: str) -> str:
    """Return a refusal as HTML that a screen reader announces; nothing for an empty text."""
    from markupsafe import escape

    text = text[:1].upper() + text[1:]
    return f'<p class="ttr-alert" role="alert">{escape(text)}</p>' if text else ""


def thumbnail(case: Case) -> str:
    """Return the visitor's picture in its own colours as HTML, with what kind of file it is."""
    from markupsafe import escape

    image = case.picture.image.copy()
    image.thumbnail((480, 480))
    uri = png_uri(np.asarray(image))
    width, height = case.picture.image.size
    named = [shortened(case.picture.name)] if case.picture.name else []
    said = " · ".join([*named, f"{case.picture.kind}, {width} × {height} pixels"])
    return (
        f'<figure class="ttr-thumb"><img src="{uri}" alt="the image in its own colours">'
        f'<figcaption class="ttr-soft">{escape(said)}</figcaption></figure>'
    )


@dataclass(frozen=True)
class Scale:
    """What the colours of maps mean.

    Attributes:
        colour_map: a matplotlib name.
        label: what the scale's numbers are.
        pattern: how a number of the scale is printed.
        bounds: (lowest, highest) of a scale for both maps; None: from 0 to the maps' maximum, as the
            :class:`Look` says.
    """

    colour_map: str
    label: str
    pattern: str
    bounds: tuple[float, float] | None = None


def pair(
    case: Case,
    title: str,
    maps: list[Any],
    alts: list[str],
    scale: Scale,
    look: Look,
    mark: tuple[float, float, float, float] | None = None,
    over: str = "",
) -> str:
    """Return maps over the picture of a case as HTML, before and after, with their scale in numbers.

    Args:
        case: whose picture is behind them.
        title: what they are, for a screen reader.
        maps: [rows, columns] before and after, of the original ahead of them; None where there is none.
        alts: each map in words.
        scale: what their colours mean.
        look: whether they are smooth, and share a scale.
        mark: (left, top, right, bottom) of a part to frame, in shares of what the model saw, 0..1.
        over: a picture with transparency to lay over all of the picture, as a data URI, or "".
    """
    highs = [0.0 if values is None else float(values.max()) for values in maps]
    scales = [(0.0, max(highs))] * len(maps) if look.shared else [(0.0, high) for high in highs]
    if scale.bounds is not None:
        scales = [scale.bounds] * len(maps)
    pictures = [
        None if values is None else colourise(values, high, scale.colour_map, values.shape, low)
        for values, (low, high) in zip(maps, scales, strict=True)
    ]
    bars = [{**bar(scale.colour_map, high, scale.pattern, low), "label": scale.label} for low, high in scales]
    shared = look.shared or scale.bounds is not None
    return _figures(case, title, pictures, alts, look.smooth, bars, shared, mark, over)


def _figures(
    case: Case,
    title: str,
    pictures: list[Any],
    alts: list[str],
    smooth: bool,
    bars: list[Any] | None = None,
    shared: bool = True,
    mark: tuple[float, float, float, float] | None = None,
    over: str = "",
) -> str:
    frame = case.inspection.frame
    named = SIDES if len(pictures) == len(SIDES) else (ORIGINAL, *SIDES)
    sides = [
        {
            "tag": tag,
            "name": name,
            "note": note,
            "alt": f"{name}: {alt}",
            "map": None if picture is None else png_uri(picture),
            "none": "the bare model has no such token",
            "bar": None if bars is None or shared else bars[index],
        }
        for index, ((tag, name, note), picture, alt) in enumerate(zip(named, pictures, alts, strict=True))
    ]
    return fill(
        "app_pair.html",
        title=title,
        file=shortened(case.picture.name),
        sides=sides,
        backdrop="data:image/jpeg;base64," + base64.b64encode(case.backdrop).decode(),
        width=case.picture.image.width,
        height=case.picture.image.height,
        box=_box(frame),
        mark=None if mark is None else _box(frame.part(*mark)),
        over=over,
        whole=frame.whole,
        smooth=smooth,
        shared=bars[0] if bars and shared else None,
    )


def _box(frame: Frame) -> dict[str, float]:
    """Return a part of a picture in percent, for a style."""
    width, height = frame.right - frame.left, frame.bottom - frame.top
    shares = {"left": frame.left, "top": frame.top, "width": width, "height": height}
    return {key: round(100 * value, 3) for key, value in shares.items()}


def peak(values: np.ndarray) -> str:
    """Return in words where a map is largest."""
    row, column = np.unravel_index(values.argmax(), values.shape)
    rows_, columns = values.shape
    return (
        f"largest {values.max():.3g} in row {row + 1} of {rows_}, column {column + 1} of {columns}, "
        f"median {np.median(values):.3g}"
    )
