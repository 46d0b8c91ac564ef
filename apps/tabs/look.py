"""How maps are looked at, the same on every tab: opacity, swipe, and squares or smooth. The browser does it.

What a visitor moves on one tab stays on that tab: a setting is a property of its own panel.
"""

from __future__ import annotations

import gradio as gr

from ttr.apps.tabs.events import IN_BROWSER

BOTH, SWIPE = "both", "swipe"
RAW, SMOOTH = "raw", "smooth"
SHOW_VIEW = (
    f"(v) => {{ document.documentElement.dataset.ttrView = v === '{SWIPE}' ? 'swipe' : 'side'; return []; }}"
)
CUT = (
    '<div class="ttr-cut"><label>Before <input type="range" min="0" max="100" value="50" '
    'aria-label="Swipe: share of the image that shows before, in percent" '
    "oninput=\"this.closest('[role=tabpanel]').style.setProperty('--ttr-cut', this.value + '%')\">"
    " After</label></div>"
)


def opacity_slider(identity: str, percent: int = 50, *, min_width: int = 160) -> gr.Slider:
    """Lay out a slider for the opacity of the maps in its own panel; ``identity`` is unique on the page."""
    slider = gr.Slider(
        0, 100, percent, step=1, label="Opacity of the map, %", min_width=min_width, elem_id=identity
    )
    panel = f"document.getElementById('{identity}').closest('[role=tabpanel]')"
    show = f"(v) => {{ {panel}.style.setProperty('--ttr-opacity', v / 100); return []; }}"
    slider.input(None, slider, None, js=show, **IN_BROWSER)
    return slider


def view_radio(identity: str) -> gr.Radio:
    """Lay out the choice between both maps side by side and one over the other."""
    radio = gr.Radio([BOTH, SWIPE], value=BOTH, label="View", min_width=190, elem_id=identity)
    radio.input(None, radio, None, js=SHOW_VIEW, **IN_BROWSER)
    return radio


def style_radio() -> gr.Radio:
    """Lay out the choice between a map's own squares and a smooth one."""
    return gr.Radio([RAW, SMOOTH], value=RAW, label="Map", min_width=150)
