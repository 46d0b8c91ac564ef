"""What the tab Compare shows, as HTML: maps on a stated scale, numbers beside them. No widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ttr.analysis.faithfulness import grade
from ttr.apps.html.viewer import SIDES, Beside, Heads, Scale, View, peak, picture_data, view
from ttr.apps.image.case import Case
from ttr.drawing.html import fill
from ttr.drawing.maps import ATTENTION_MAP, NORM_MAP, png_uri
from ttr.drawing.tables import number
from ttr.studies.compare.page import CHECKS, QUANTITIES, rows
from ttr.wording import DISCLAIMER, counted, percent, shortened

#: How a map lies over its picture: as opaque as it is large, all alike, as contours, or as boxes.
Overlay = Literal["value", "even", "contour", "box"]
OVERLAYS: tuple[Overlay, ...] = get_args(Overlay)


@dataclass(frozen=True)
class Look:
    """How the maps are looked at. The page paints all but the first three itself; exports follow all of it.

    Attributes:
        layer: block, 0..L-1.
        head: attention head, or None for their mean.
        query: token whose attention is shown.
        smooth: enlarge smoothly, or show each patch as a square.
        shared: one colour scale for both maps, or one each.
        log: whether the colour scale is logarithmic.
        overlay: of :data:`OVERLAYS`.
        opacity: of the map's largest value, or of all of it, 0..1.
    """

    layer: int
    head: int | None = None
    query: str = "CLS"
    smooth: bool = False
    shared: bool = True
    log: bool = False
    overlay: Overlay = "value"
    opacity: float = 0.9


def attention(case: Case, look: Look, at_least: float = 0.0) -> str:
    """Return the attention maps before and after as HTML.

    ``at_least``: how far their scale reaches, the maximum of maps beside these; 0: these stand alone.

    Raises:
        OptionError: no such block, head or query.
    """
    shown = view(case, attention_view(case, look, at_least))
    return shown + _likeness(case.inspection.likeness(look.layer, look.head, look.query))


def attention_view(case: Case, look: Look, at_least: float = 0.0) -> View:
    """Return the attention maps before and after; arguments and errors as of :func:`attention`."""
    found = case.inspection
    found.check(look.layer, look.head, look.query)
    maps = attention_maps(case, look)
    shares = [run.register_share(look.layer, look.head, look.query) for run in found.shown]
    which = "mean of the heads" if look.head is None else f"head {look.head}"
    what = f"attention of {look.query}, block {look.layer}, {which}"
    alts = [
        f"{what}: {peak(values)}; registers hold {100 * share:.0f} %"
        if values is not None and share is not None
        else f"{what}: there is no such token"
        for values, share in zip(maps, shares, strict=True)
    ]
    label = f"share of the attention of {look.query} on one patch"
    return View(
        "Attention before and after",
        "attention",
        maps,
        alts,
        Scale(ATTENTION_MAP, _of_both(label, at_least), at_least=at_least),
        (Beside("norm", [run.norm_map(look.layer) for run in found.shown]),),
        Heads(look.query, [run.head_maps(look.layer, look.query) for run in found.shown]),
        at=(look.layer, series_of(case, look)),
    )


def norms(case: Case, look: Look, at_least: float = 0.0) -> str:
    """Return the norm maps before and after as HTML; head and query matter to the pointer alone.

    ``at_least``: as of :func:`attention`.
    """
    return view(case, norm_view(case, look, at_least))


def norm_view(case: Case, look: Look, at_least: float = 0.0) -> View:
    """Return the norm maps before and after; arguments as of :func:`norms`."""
    maps = norm_maps(case, look)
    alts = [f"patch norms, block {look.layer}: {peak(values)}" for values in maps if values is not None]
    return View(
        "Patch norms before and after",
        "norm",
        maps,
        alts,
        Scale(NORM_MAP, _of_both("norm (length) of a patch’s token", at_least), at_least=at_least),
        (Beside("attention", attention_maps(case, look)),),
        at=(look.layer, series_of(case, look)),
    )


def series_of(case: Case, look: Look) -> str:
    """Return what a case's maps of all blocks at one head and query are called."""
    return f"{case.inspection.identity} {look.head} {look.query}"


def attention_maps(case: Case, look: Look) -> list[np.ndarray | None]:
    """Return the attention maps that are shown of a case, None where there is no such token."""
    return [run.attention_map(look.layer, look.head, look.query) for run in case.inspection.shown]


def norm_maps(case: Case, look: Look) -> list[np.ndarray | None]:
    """Return the norm maps that are shown of a case."""
    return [run.norm_map(look.layer) for run in case.inspection.shown]


def _of_both(label: str, at_least: float) -> str:
    return f"{label}; one scale for both choices" if at_least else label


def colours(case: Case, look: Look) -> str:
    """Return the patches at the last block as colours, before and after, as HTML."""
    found = case.inspection
    pictures: list[np.ndarray | None] = [run.colours for run in found.shown]
    alts = ["patches at the last block as colours; equal colours are like features"] * len(pictures)
    last = (Beside("norm", [run.norm_map(found.layers - 1) for run in found.shown]),)
    return view(case, View("Patch colours before and after", "", pictures, alts, beside=last))


def verdict(case: Case) -> str:
    """Return what the move did to this image in one sentence, as HTML."""
    return fill("app_said.html", said=verdict_of(case))


def verdict_of(case: Case) -> str:
    """Return what the move did to this image in one sentence."""
    before, after = case.inspection.comparison.before, case.inspection.comparison.after
    grades = grade(before.trust), grade(after.trust)
    amounts = " and ".join(number(view.faithfulness, "{:.2f}").text for view in (before, after))
    if not case.inspection.num_neurons:
        tokens = counted(case.num_registers, "blank token")
        moved = f"No register neuron is moved, so “after” is the same model with {tokens}"
    elif before.outlier_patches or after.outlier_patches:
        moved = (
            f"{counted(before.outlier_patches, 'outlier patch').capitalize()} before and "
            f"{after.outlier_patches or 'none'} after the move"
        )
    else:
        moved = "No outlier patches before or after the move"
    trusted = (
        f"the attention map is {grades[0]} before and after"
        if grades[0] == grades[1]
        else f"the attention map is {grades[0]} before and {grades[1]} after"
    )
    said = f"{moved}; {trusted} (faithfulness {amounts})."
    if case.answer is not None:
        first, then = case.answer.first
        said += (
            f" The answer changes from {first} to {then}."
            if case.answer.changed
            else f" The answer stays: {first}."
        )
    return said


def _likeness(cosines: tuple[float, float] | None) -> str:
    """Return how like the original's the maps are as HTML; nothing where there is no original."""
    if cosines is None:
        return ""
    before, after = (f"<strong>{value:.3f}</strong>" for value in cosines)
    said = f"Cosine of the map with the original’s: before {before}, after {after}."
    return f'<p class="ttr-likeness">{said}</p>'


def numbers(case: Case, second: Case | None = None, called: tuple[str, ...] = ()) -> str:
    """Return the numbers, warnings and answers beside the maps as HTML.

    Args:
        case: the image.
        second: the same through a second choice of model and neurons, whose columns stand beside.
        called: what tells each choice from the other.
    """
    cases = [case] if second is None else [case, second]
    compared = [each.inspection.comparison for each in cases]
    graded = [
        [
            (tag, name, view.faithfulness, grade(view.trust))
            for (tag, name, _), view in zip(SIDES, (each.before, each.after), strict=True)
        ]
        for each in compared
    ]
    checks, moved = (
        list(zip(*(rows([each.before], [each.after], asked) for each in compared), strict=True))
        for asked in (CHECKS, [each for each in QUANTITIES if each[0] != "faithfulness"])
    )
    return fill(
        "app_numbers.html",
        cases=cases,
        called=called,
        cautions=_cautions(cases, called),
        graded=graded,
        checks=checks,
        rows=moved,
        percent=percent,
        disclaimer=DISCLAIMER,
    )


def _cautions(cases: list[Case], called: tuple[str, ...]) -> list[str]:
    """Return what must be said of all cases, then of each alone, under its name."""
    common = [line for line in cases[0].cautions if all(line in each.cautions for each in cases)]
    own = [
        f"{name}: {line}"
        for name, each in zip(called, cases, strict=False)
        for line in each.cautions
        if line not in common
    ]
    return [*own, *common]


def message(text: str) -> str:
    """Return a refusal as HTML that a screen reader announces; nothing for an empty text."""
    from markupsafe import escape

    text = text[:1].upper() + text[1:]
    return f'<p class="ttr-alert" role="alert">{escape(text)}</p>' if text else ""


def picture(case: Case) -> str:
    """Return the picture that all views of a case show, with what kind of file it is, as HTML."""
    # The slices of a stack are fetched one by one.
    data = picture_data(case.plate) if case.picture.slice is None else {"id": case.identity}
    return fill("app_picture.html", picture=data, said=_about(case))


def thumbnail(case: Case) -> str:
    """Return a picture in its own colours as HTML, with what kind of file it is."""
    from markupsafe import escape

    image = case.picture.image.copy()
    image.thumbnail((480, 480))
    uri = png_uri(np.asarray(image))
    return (
        f'<figure class="ttr-thumb"><img src="{uri}" alt="the image in its own colours">'
        f'<figcaption class="ttr-soft">{escape(_about(case))}</figcaption></figure>'
    )


def _about(case: Case) -> str:
    """Return what a picture is: its name, shortened, its kind and its size."""
    width, height = case.picture.image.size
    named = [shortened(case.picture.name)] if case.picture.name else []
    return " · ".join([*named, f"{case.picture.kind}, {width} × {height} pixels"])
