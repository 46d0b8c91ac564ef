"""An ablation's pictures as HTML: maps under every condition on stated scales, and what registers resemble.

The maps are the small PNGs of :mod:`ttr.studies.ablate.panels`, made once a result; another image, condition
or query is then a matter of looking up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ttr.apps.html import explanations
from ttr.drawing.html import fill
from ttr.errors import OptionError
from ttr.studies.ablate.folder import Shown
from ttr.studies.ablate.panels import panels

ALL, FULL = "of all conditions", "of the full condition"
SCALES = {ALL: "all", FULL: "full"}
KINDS = {
    "norms": ("patch norms", "length of a patch’s token (L2 norm)"),
    "colours": ("patch features in three colours", ""),
    "attention": ("attention", "share of the attention on one patch"),
}


@dataclass(frozen=True)
class At:
    """Which pictures are looked at.

    Attributes:
        image: its name.
        condition: beside the full one.
        query: whose attention, as :func:`queries` names it.
        scale: of :data:`SCALES`.
    """

    image: str
    condition: str
    query: str
    scale: str


def queries(shown: Shown) -> list[str]:
    """Return the tokens whose attention there is, CLS first."""
    return ["CLS" if query == "cls" else query for query in shown.queries]


def pictures(shown: Shown, kind: str, at: At) -> str:
    """Return the maps of one kind (of :data:`KINDS`): input, full and one condition, then every condition.

    Raises:
        OptionError: there is no such image, condition, query or scale.
    """
    found = _made(shown)
    try:
        image, query = shown.images.index(at.image), queries(shown).index(at.query)
        conditions, scale = (shown.conditions.index(at.condition), SCALES[at.scale])
    except (ValueError, KeyError) as error:
        raise OptionError(
            f"{at.image}, {at.condition}, {at.query}, {at.scale}: not in this result; choose from the lists"
        ) from error
    name, unit = KINDS[kind]
    what = f"attention of {at.query} in the last block, mean of the heads" if kind == "attention" else name
    photo = found["pixels"][image]

    def side(index: int) -> dict[str, Any]:
        uri = _uri(found, kind, scale, index, image, query)
        condition = shown.conditions[index]
        about = _said(shown, kind, index, image, query) if uri else "there is no such token"
        return {
            "name": condition,
            "alt": f"{what}, {at.image}, {condition}{about and ': '}{about}",
            "map": uri,
            "photo": photo if kind == "attention" and uri else None,
            "chosen": index == conditions,
        }

    full = shown.conditions.index("full") if "full" in shown.conditions else 0
    whole = {"name": "input", "alt": f"{at.image}, as the model is given it", "photo": photo, "map": None}
    return fill(
        "app_pictures.html",
        what=f"{what[:1].upper()}{what[1:]}, {at.image}. {_lacking(shown, kind)}".strip(),
        bar=found["bars"][kind][scale] if unit else None,
        label=_label(found, kind, scale, unit),
        sides=[whole, side(full), side(conditions)],
        strip=[side(index) for index in range(len(shown.conditions))],
    )


def gallery(shown: Shown) -> str:
    """Return the patches nearest to each register, or that there are no registers."""
    found = _made(shown)["gallery"]
    if not found:
        return f'<p class="ttr-missing">{explanations.NO_REGISTERS}</p>'
    images = ", ".join(
        dict.fromkeys(patch["image"] for each in found for patch in (*each["patches"], *each["of_mean"]))
    )
    return fill("app_gallery.html", gallery=found, images=images)


@lru_cache(maxsize=4)
def _made(shown: Shown) -> dict[str, Any]:
    return panels(shown)


def _uri(found: dict[str, Any], kind: str, scale: str, condition: int, image: int, query: int) -> str | None:
    if kind == "colours":
        return found["colours"][condition][image]
    uri = found[kind][scale][condition][image]
    return uri[query] if kind == "attention" else uri


def _said(shown: Shown, kind: str, condition: int, image: int, query: int) -> str:
    """Return a map in words."""
    if kind == "colours":
        return ""
    values = shown.arrays[kind][condition, image].astype(float)
    values = values[query] if kind == "attention" else values
    row, column = np.unravel_index(values.argmax(), values.shape)
    return (
        f"largest {values.max():.3g} in row {row + 1} of {values.shape[0]}, column {column + 1} of "
        f"{values.shape[1]}, median {np.median(values):.3g}"
    )


def _label(found: dict[str, Any], kind: str, scale: str, unit: str) -> str:
    if not unit:
        return ""
    span = (
        "one scale for all conditions and images"
        if scale == "all"
        else "one scale for all, up to what the full condition reaches"
    )
    beyond = f"; larger values, up to {found['largest'][kind]}, take the last colour"
    return f"{unit}; {span}{beyond if scale == 'full' or kind == 'attention' else ''}"


def _lacking(shown: Shown, kind: str) -> str:
    lacks = kind == "attention" and not np.isfinite(shown.arrays["attention"]).all()
    return "Hatched: the condition has no such token." if lacks else ""
