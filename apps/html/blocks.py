"""The maps of every block of a case, sent with it: the browser shows another block before it is answered.

Of each block comes what the pointer, the colour scale and a screen reader have of it. What the loupe has, and
how like the original's a map is, follow with the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ttr.apps.html.panels import Look, attention_view, norm_view, series_of
from ttr.apps.html.viewer import View, alts_by_side, floats, scale_ends
from ttr.apps.image.case import Case
from ttr.drawing.html import fill


def all_blocks(case: Case, look: Look) -> str:
    """Return the maps of all blocks at the head and query of a look, as HTML that shows nothing.

    Beside a second choice there are none: the scales of its maps are not theirs alone.
    """
    if case.beside is not None:
        return ""
    looks = [replace(look, layer=layer) for layer in range(case.inspection.layers)]
    views = {
        shown[0].name: shown
        for shown in ([draw(case, each) for each in looks] for draw in (attention_view, norm_view))
    }
    data = {
        "called": series_of(case, look),
        "maps": {name: [floats(each.maps) for each in shown] for name, shown in views.items()},
        "views": {name: [_said(each) for each in shown] for name, shown in views.items()},
    }
    return fill("app_blocks.html", data=data)


def _said(shown: View) -> dict[str, Any]:
    """Return what changes of a view with the block, but for its maps."""
    assert shown.scale is not None
    return {"alts": alts_by_side(shown), "scale": scale_ends(shown.scale, shown.maps)}
