"""How maps are looked at, the same on every tab: how they lie over the picture, on which scale.

The browser does it. What a visitor moves on one tab stays on that tab: a setting belongs to its own panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ttr.apps.html.panels import Look, Overlay
from ttr.apps.tabs.events import AT_ONCE, IN_BROWSER

BOTH, SWIPE = "both", "swipe"
SQUARES, SMOOTH = "squares", "smooth"
SHARED, OWN = "shared", "own"
LINEAR, LOG = "linear", "logarithmic"
#: What a way to lie over the picture is called.
LAID: dict[str, Overlay] = {
    "large values show": "value",
    "all values show": "even",
    "contours": "contour",
    "boxes": "box",
}
FIRST = Look(0)
SHOW_VIEW = (
    f"(v) => {{ document.documentElement.dataset.ttrView = v === '{SWIPE}' ? 'swipe' : 'side'; return []; }}"
)
CUT = (
    '<div class="ttr-cut"><label>Before <input type="range" min="0" max="100" value="50" '
    'aria-label="Swipe: share of the image that shows before, in percent" '
    "oninput=\"this.closest('[role=tabpanel]').style.setProperty('--ttr-cut', this.value + '%')\">"
    " After</label></div>"
)


@dataclass(frozen=True)
class LookControls:
    """The widgets that decide how maps lie over their picture; :func:`looked_at` takes their values."""

    laid: gr.Dropdown
    opacity: gr.Slider
    style: gr.Radio
    scale: gr.Radio
    numbers: gr.Radio

    def all(self) -> list[Any]:
        """Return them in the order of :func:`looked_at`."""
        return [self.laid, self.opacity, self.style, self.scale, self.numbers]


def look_controls(identity: str, *, own: bool = True, log: bool = True) -> LookControls:
    """Lay out the widgets in their own panel; ``identity`` begins their names and is unique on the page.

    ``own``, ``log``: whether maps there may have a scale each, and a logarithmic one.
    """
    names = {name: f"{identity}-{name}" for name in ("laid", "opacity", "style", "scale", "log")}
    laid = gr.Dropdown(list(LAID), value=next(iter(LAID)), label="Map over the image", elem_id=names["laid"])
    opacity = gr.Slider(
        0, 100, round(100 * FIRST.opacity), step=1, label="Opacity of the map, %", elem_id=names["opacity"]
    )
    style = gr.Radio([SQUARES, SMOOTH], value=SQUARES, label="Map", elem_id=names["style"])
    scale = gr.Radio([SHARED, OWN], value=SHARED, label="Colour scale", elem_id=names["scale"], visible=own)
    numbers = gr.Radio([LINEAR, LOG], value=LINEAR, label="Its numbers", elem_id=names["log"], visible=log)
    ways = "{" + ", ".join(f"{said!r}: {overlay!r}" for said, overlay in LAID.items()) + "}"
    for widget, changed in (
        (laid, f"overlay: ({ways})[v]"),
        (opacity, "opacity: v / 100"),
        (style, f"smooth: v === '{SMOOTH}'"),
        (scale, f"own: v === '{OWN}'"),
        (numbers, f"log: v === '{LOG}'"),
    ):
        js = f"(v) => {{ ttrViewer.set('{widget.elem_id}', {{ {changed} }}); return []; }}"
        widget.input(None, widget, None, js=js, **IN_BROWSER)
    laid.input(_of_surfaces, laid, [opacity, style], **AT_ONCE)
    return LookControls(laid, opacity, style, scale, numbers)


def is_surface(laid: str) -> bool:
    """Return whether a map that lies so has surfaces, which lines have not: an opacity, and squares."""
    return LAID.get(laid) in ("value", "even")


def _of_surfaces(laid: str) -> list[Any]:
    return [gr.update(interactive=is_surface(laid))] * 2


def looked_at(
    layer: int, head: int | None, query: str, laid: str, opacity: float, style: str, scale: str, numbers: str
) -> Look:
    """Return what is looked at, and how, of the values of :class:`LookControls`."""
    return Look(
        layer,
        head,
        query,
        style == SMOOTH,
        scale == SHARED,
        numbers == LOG,
        LAID.get(laid, FIRST.overlay),
        min(max(opacity / 100, 0), 1),
    )


def opacity_slider(identity: str, percent: int) -> gr.Slider:
    """Lay out a slider for the opacity of pictures that come as they are, in its own panel."""
    slider = gr.Slider(0, 100, percent, step=1, label="Opacity of the map, %", elem_id=identity)
    panel = f"document.getElementById('{identity}').closest('[role=tabpanel]')"
    show = f"(v) => {{ {panel}.style.setProperty('--ttr-opacity', v / 100); return []; }}"
    slider.input(None, slider, None, js=show, **IN_BROWSER)
    return slider


def view_radio(identity: str) -> gr.Radio:
    """Lay out the choice between both maps side by side and one over the other."""
    radio = gr.Radio([BOTH, SWIPE], value=BOTH, label="View", elem_id=identity, elem_classes="ttr-look")
    radio.input(None, radio, None, js=SHOW_VIEW, **IN_BROWSER)
    return radio
