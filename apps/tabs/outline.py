"""The picture on which a finding is outlined: a box drawn or typed, or a mask that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import gradio as gr

#: What is drawn is a select of the place that nobody sees; the corners travel as the typed ones do.
SCRIPT = resources.files("ttr").joinpath("templates", "app_outline.js").read_text(encoding="utf-8")
DRAWN = "(...inputs) => [...inputs.slice(0, -4), ...window.ttrBox]"
SIDES = ("Left", "Top", "Right", "Bottom")


@dataclass(frozen=True)
class OutlineBox:
    """The widgets with which something is outlined."""

    drawn: gr.HTML
    picture: gr.HTML
    corners: list[gr.Number]
    take: gr.Button
    away: gr.Button
    mask: gr.File


def outline_box() -> OutlineBox:
    """Lay out the picture and what outlines a part of it."""
    drawn = gr.HTML(visible="hidden", js_on_load=SCRIPT)
    with gr.Row():
        with gr.Column(min_width=250):
            picture = gr.HTML(elem_id="outline-picture")
        with gr.Column(min_width=250):
            with gr.Row():
                corners = [
                    gr.Number(None, label=side, min_width=56, precision=0, elem_id=f"outline-{side.lower()}")
                    for side in SIDES
                ]
            with gr.Row():
                take = gr.Button("Take this box", size="sm", min_width=100)
                away = gr.Button("Take it away", size="sm", min_width=100)
            mask = gr.File(label="Mask: PNG of the picture’s size", height=140, elem_id="mask")
    return OutlineBox(drawn, picture, corners, take, away, mask)
