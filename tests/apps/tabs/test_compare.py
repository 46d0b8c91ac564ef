"""The tab Compare: what is not in force is disabled, and what is looked at is what an export follows."""

from __future__ import annotations

import pytest

from ttr.apps.html.panels import Look
from ttr.apps.tabs.compare import IN_FORCE, _in_force
from ttr.apps.tabs.look import LAID, look_controls, looked_at

#: As the widgets stand.
WIDGETS = ("block", "head", "query", "view", "laid", "opacity", "style", "scale", "numbers")


@pytest.mark.parametrize(
    ("tab", "laid", "unused"),
    [
        ("Attention", "large values show", set()),
        ("Attention", "contours", {"opacity", "style"}),
        ("Norms", "all values show", {"head", "query"}),
        ("Norms", "boxes", {"head", "query", "opacity", "style"}),
        ("PCA colours", "boxes", {"block", "head", "query", "laid", "scale", "numbers"}),
        ("By block", "large values show", set(WIDGETS)),
    ],
)
def test_what_a_tab_has_no_use_for_is_disabled(tab, laid, unused):
    states = [each["interactive"] for each in _in_force(IN_FORCE[tab], laid)]
    assert {name for name, state in zip(WIDGETS, states, strict=True) if not state} == unused


def test_what_the_widgets_say_is_the_look_of_an_export():
    import gradio as gr

    with gr.Blocks():
        widgets = look_controls("here")
    assert looked_at(3, None, "CLS", *(each.value for each in widgets.all())) == Look(3)
    for said, overlay in LAID.items():
        at = looked_at(0, 1, "CLS", said, 140, "smooth", "own", "logarithmic")
        assert at == Look(0, 1, "CLS", smooth=True, shared=False, log=True, overlay=overlay, opacity=1.0)
