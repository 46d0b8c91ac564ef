"""What words or a marker were asked of an image that was taken away meanwhile shows nothing."""

from __future__ import annotations

import gradio as gr
import pytest

from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import marker, prompts
from ttr.apps.tabs.events import Turn

EVENTS = [
    (prompts, prompts.prompts_tab, "prompt-run", "_answered", 5),
    (marker, marker.marker_tab, "marker-run", "_burnt", 6),
    (marker, marker.marker_tab, "marker-all", "_swept", 2),
]


@pytest.mark.parametrize(("tab", "lay_out", "button", "work", "outputs"), EVENTS)
def test_no_late_answer_comes_after_its_image_was_taken_away(
    phantom, monkeypatch, tab, lay_out, button, work, outputs
):
    with gr.Blocks() as blocks:
        case, chosen, state = gr.State(None), gr.State(None), gr.State(Turn())
        with gr.Tab("Own") as own:
            lay_out(Workbench({"phantom": lambda: phantom}), case, chosen, state, own)
    event = next(
        each
        for each in blocks.fns.values()
        if button in [getattr(blocks.blocks.get(widget), "elem_id", None) for widget, _ in each.targets]
    )
    assert event.inputs[0] is state
    turn, answer = Turn(), [f"answer {number}" for number in range(outputs)]
    monkeypatch.setattr(tab, work, lambda *values: answer)
    assert event.fn(turn, None, None) == answer
    monkeypatch.setattr(tab, work, lambda *values: (turn.passes(), answer)[1])
    assert event.fn(turn, None, None) == [gr.skip()] * outputs
