"""What the tab Attribution shows of an image, as HTML, and what is taken away of it. No widgets."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttr.apps.html import takeaway
from ttr.apps.html.panels import Look
from ttr.apps.html.viewer import ORIGINAL, SIDES, Scale, View, peak, view
from ttr.apps.image.attribution import TEXT, Attribution
from ttr.apps.image.case import Case
from ttr.apps.image.outline import Localised, Outline
from ttr.attribution.attribute import OF_A_BLOCK, WITHOUT_TARGET
from ttr.drawing.html import fill
from ttr.drawing.maps import ATTENTION_MAP, LINE, png_uri, rim
from ttr.drawing.regions import shares
from ttr.errors import TTRError
from ttr.studies.localize.localisation import RANDOM_MAPS
from ttr.wording import DISCLAIMER, percent

SCHEMA = "ttr.attribution/1"
#: Longer side of the picture on which a box is drawn, and of a rim, in pixels.
SIDE = 512
#: Of a rim on that picture, in pixels.
WIDTH = 3
#: A metric's name on the page, and what it asks.
METRIC_NAMES = {
    "pointing_game": ("pointing game", "does the strongest patch hit the outline?"),
    "relevance_mass": ("energy in the outline", "which share of the map lies inside?"),
    "relevance_rank": (
        "rank accuracy",
        "of as many of the strongest pixels as it has, how many hit?",
    ),
    "auprc": ("AUPRC", "precision and recall over all cuts of the map"),
    "iou_otsu": ("IoU after Otsu", "overlap with what Otsu’s cut leaves of the map"),
}
DRAW = "Drag on the picture from one corner of the finding to the other, or type the corners, or load a mask."
NO_OUTLINE = "Draw a box around the finding, or load its mask, and the numbers stand here."

FLAT = "The map {name} is one number all over; it scores the outline’s share."
NO_ANSWER = (
    "Methods that explain an answer are not offered: this model has no head of its own, none that fits is "
    "loaded (ttr app --head FILE), and it reads no words, as a CLIP model does."
)


@dataclass(frozen=True)
class MetricRow:
    """A metric, ready to print: its name, what it asks, and a cell a column."""

    label: str
    about: str
    cells: tuple[str, ...]


def maps(case: Case, found: Attribution, outline: Outline | None) -> str:
    """Return the maps before and after as HTML, on one scale, with what is outlined."""
    what = f"{found.method} {found.said}"
    alts = [f"{what}: {peak(each)}" for each in found.maps]
    scale = Scale(ATTENTION_MAP, f"{what}: of one patch, in the method’s own unit")
    over = "" if outline is None else rim_uri(outline)
    return view(
        case, View(f"{found.method} before and after", found.method, list(found.maps), alts, scale, over=over)
    )


def drawing(case: Case, outline: Outline | None) -> str:
    """Return the picture on which a box is drawn as HTML, with what is outlined."""
    image = case.picture.image.copy()
    image.thumbnail((SIDE, SIDE))
    width, height = case.picture.image.size
    said = DRAW if outline is None else f"The {outline.said}. Draw another, or take it away."
    return fill(
        "app_outline.html",
        alt=f"the image in its own colours; {'nothing is outlined' if outline is None else outline.said}",
        picture=png_uri(np.asarray(image)),
        over="" if outline is None else rim_uri(outline),
        width=width,
        height=height,
        said=said,
    )


def rim_uri(outline: Outline) -> str:
    """Return the rim of an outline, bright beside dark and else transparent, as a data URI."""
    from PIL import Image

    height, width = outline.inside.shape
    shrink = max(1, max(width, height) / SIDE)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    shares = np.asarray(Image.fromarray(np.uint8(255) * outline.inside).resize(size, Image.Resampling.BOX))
    inside = shares > 0  # what is small stays to be seen
    pixels = np.zeros((*inside.shape, 4), dtype=np.uint8)
    for colour in (*[LINE] * WIDTH, (0, 0, 0)):
        edge = rim(inside)
        pixels[edge] = (*colour, 255)
        inside = inside & ~edge
    return png_uri(pixels)


def in_force(method: str, kind: str | None, kinds: list[str]) -> str:
    """Say as HTML which choices are not in force for a method, and why.

    ``kind``: of the answer; ``kinds``: those that there are.
    """
    from markupsafe import escape

    if method in OF_A_BLOCK:
        said = [f"{method} is what the model looks at, whatever its answer: no answer can be chosen."]
    elif method in WITHOUT_TARGET:
        said = [f"{method} goes through all blocks and heads, whatever the answer: neither can be chosen."]
    else:
        beside = "class" if kind == TEXT else "words"
        said = [f"{method} explains an answer of the whole model: no block, head or {beside} can be chosen."]
    if not kinds:
        said.append(NO_ANSWER)
    return f'<p class="ttr-soft" role="status">{escape(" ".join(said))}</p>'


def numbers(
    case: Case,
    found: Attribution,
    outline: Outline | None,
    scored: Localised | TTRError | None,
    caution: str = "",
) -> str:
    """Return the numbers against an outline as HTML, or why there are none.

    ``caution``: what must be said of the model, or "".
    """
    cautions = list(filter(None, [caution, *case.picture.notes]))
    values: dict[str, Any] = {"found": None, "missing": NO_OUTLINE if scored is None else f"{scored}."}
    if outline is not None and isinstance(scored, Localised):
        flat = [name for name, same in zip(_names(found), scored.flat, strict=True) if same]
        cautions += [FLAT.format(name=name) for name in flat]
        values = {
            "found": scored,
            "sentence": sentence(scored),
            "rows": _rows(scored),
            "draws": RANDOM_MAPS,
            "said": outline.said,
            "share": percent(scored.share),
        }
    return fill(
        "app_attribution.html",
        case=case,
        cautions=cautions,
        names=_names(found),
        disclaimer=DISCLAIMER,
        **values,
    )


def sentence(scored: Localised) -> str:
    """Say how much of the map lies in the outline before and after, beside a random map."""
    *_, before, after = scored.values["relevance_mass"]
    return (
        f"Before, {percent(before)} of the map lies in the outline, after {percent(after)}; of a random map "
        f"it is {percent(scored.random['relevance_mass'])}."
    )


def zip_of(
    case: Case, found: Attribution, outline: Outline | None, scored: Localised | None, look: Look
) -> bytes:
    """Return a ZIP: image.png, the maps over it, outline.png, numbers.json, provenance.json, README.txt."""
    stream, pixels = io.BytesIO(), np.asarray(case.picture.image)
    high = max(float(each.max()) for each in found.maps)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.png", takeaway.png(pixels))
        for name, values in zip(_names(found), found.maps, strict=True):
            lies = shares(values, 0.0, high if look.shared else float(values.max()), log=look.log)
            laid = takeaway.laid(pixels, lies, ATTENTION_MAP, case.inspection.frame, look)
            archive.writestr(f"{found.method}-{name}.png", takeaway.png(laid))
        if outline is not None:
            archive.writestr("outline.png", takeaway.png(np.uint8(255) * outline.inside))
        archive.writestr("numbers.json", json.dumps(values_of(case, found, outline, scored), indent=1))
        made_with = dict(case.inspection.comparison.provenance)
        archive.writestr("provenance.json", json.dumps(made_with, indent=1))
        archive.writestr("README.txt", f"{takeaway.named(case)}\n\n{takeaway.NOTE}")
    return stream.getvalue()


def values_of(
    case: Case, found: Attribution, outline: Outline | None, scored: Localised | None
) -> dict[str, Any]:
    """Return all numbers of an attribution as JSON values."""
    names = _names(found)
    metrics = (
        {}
        if scored is None
        else {
            metric: {
                **dict(zip(names, values, strict=True)),
                "random_map": scored.random[metric],
                "centre_map": scored.centre[metric],
            }
            for metric, values in scored.values.items()
        }
    )
    return {
        "schema": SCHEMA,
        "image": case.picture.sha256,
        "image_file": takeaway.file_of(case),
        "model": case.model,
        "neurons": {"source": case.neurons, "count": case.inspection.num_neurons},
        "seen_part": vars(case.inspection.frame),
        "method": found.method,
        "of": found.said,
        "maps": {name: each.tolist() for name, each in zip(names, found.maps, strict=True)},
        "outline": None if outline is None else {"what": outline.said, "corners": list(outline.corners)},
        "outline_share": None if scored is None else scored.share,
        "localisation": metrics,
        "images": 1,
        "disclaimer": DISCLAIMER,
    }


def _names(found: Attribution) -> list[str]:
    sides = SIDES if len(found.maps) == len(SIDES) else (ORIGINAL, *SIDES)
    return [tag for tag, _, _ in sides]


def _rows(scored: Localised) -> list[MetricRow]:
    return [
        MetricRow(
            *METRIC_NAMES[metric],
            tuple(f"{value:.3f}" for value in (*values, scored.random[metric], scored.centre[metric])),
        )
        for metric, values in scored.values.items()
    ]
