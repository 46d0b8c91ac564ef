"""The tab Marker test: burn a marker into the image, and see whether the model follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ttr.apps.html import explanations, panels
from ttr.apps.html import marker as marker_html
from ttr.apps.image.answers import Reader, TextReader, read_classes
from ttr.apps.image.case import Case
from ttr.apps.image.marker import MarkerTest, marker_test
from ttr.apps.image.marker_drawing import CORNERS, KINDS, LARGEST, SMALLEST, Corner, Kind, Marker
from ttr.apps.image.marker_places import all_places
from ttr.apps.image.memory import Kept, seen
from ttr.apps.image.prompt_map import read_texts
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Chosen, Workbench
from ttr.apps.tabs.events import ALONE, IN_ORDER, Emptied, turned
from ttr.apps.tabs.look import CUT, look_controls
from ttr.wording import counted

NOTHING = "Choose a marker and a corner, and burn it in. The image itself stays as it is."
#: What is kept of a test: the image, and what came of it.
Burnt = Kept[tuple[Case, MarkerTest]]


@dataclass(frozen=True)
class Controls:
    """The widgets that decide what is burnt in, who answers, and how the maps are looked at."""

    kind: gr.Radio
    corner: gr.Radio
    size: gr.Slider
    classes: gr.Textbox
    burn: gr.Button
    every: gr.Button


def marker_tab(
    workbench: Workbench, case: gr.State, chosen: gr.State, turn: gr.State, tab: gr.Tab
) -> Emptied:
    """Lay out the tab; it asks about the image of ``case`` and the model of ``chosen``. Return it empty."""
    kept = gr.State(None, time_to_live=FORGOTTEN)
    with gr.Row(elem_classes="ttr-desk"):
        with gr.Column(elem_classes="ttr-controls", min_width=0):
            controls = _controls()
            picture = gr.HTML(elem_id="marker-picture")
        with gr.Column(elem_classes="ttr-stage", min_width=0):
            status = gr.HTML(elem_id="marker-status", elem_classes="ttr-status")
            verdict = gr.HTML(elem_id="marker-verdict", elem_classes="ttr-status")
            places = gr.HTML(elem_classes="ttr-numbers ttr-status", elem_id="marker-places")
            gr.HTML(CUT)
            maps = gr.HTML(elem_id="marker-maps")
            gr.HTML(explanations.why(explanations.MARKER))
        with gr.Column(elem_classes="ttr-below", min_width=0):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="marker-numbers")
    shown = [kept, status, picture, verdict, maps, numbers]

    def burnt(*values: Any) -> list[Any]:
        return _burnt(workbench, *values)

    def swept(*values: Any) -> list[Any]:
        return _swept(workbench, *values)

    def entered(found: Kept[Case] | None, held: Burnt | None) -> list[Any]:
        image, burnt_into = seen(found), seen(held)
        if burnt_into is not None and burnt_into[0] is image:
            return [gr.skip() for _ in (*shown, places)]
        text = NOTHING if image is not None else explanations.NO_IMAGE
        return [
            None,
            explanations.empty(text),
            "" if image is None else panels.thumbnail(image),
            "",
            "",
            "",
            "",
        ]

    asked = [controls.size, controls.classes]
    marker = [controls.kind, controls.corner]
    controls.burn.click(turned(burnt, len(shown)), [turn, case, chosen, *asked, *marker], shown, **ALONE)
    controls.every.click(turned(swept, 2), [turn, case, chosen, *asked], [places, status], **ALONE)
    tab.select(entered, [case, kept], [*shown, places], **IN_ORDER)
    return Emptied([*shown, places], [None, "", "", "", "", "", ""])


def _controls() -> Controls:
    kind = gr.Radio(list(KINDS), value=KINDS[0], label="Marker", elem_id="marker-kind")
    corner = gr.Radio(list(CORNERS), value=CORNERS[0], label="Corner", elem_id="marker-corner")
    least, first, most = (round(100 * share) for share in (SMALLEST, Marker.size, LARGEST))
    size = gr.Slider(least, most, first, step=1, label="Size, % of the shorter side", elem_id="marker-size")
    classes = gr.Textbox(
        label="Answers to choose from (CLIP models), separated by commas",
        placeholder="normal, pneumonia",
        elem_id="marker-classes",
    )
    burn = gr.Button("Burn it in", variant="primary", size="sm", elem_id="marker-run")
    every = gr.Button("Try all markers in all corners", size="sm", elem_id="marker-all")
    look_controls("marker", own=False)
    return Controls(kind, corner, size, classes, burn, every)


def _burnt(
    workbench: Workbench,
    found: Kept[Case] | None,
    choice: Chosen | None,
    percent: float,
    typed: str,
    kind: Kind,
    corner: Corner,
) -> list[Any]:
    image, model = workbench.asked(found, choice)
    asked = _asked(workbench, image, typed)
    backbone = workbench.backbone(model.model)
    with workbench.alone():
        test = marker_test(
            backbone,
            model.neurons,
            image.picture.image,
            Marker(kind, corner, percent / 100),
            asked=asked,
            num_registers=workbench.num_registers,
        )
    return [
        workbench.memory.keep((image, test)),
        "",
        panels.thumbnail(marker_html.marked(image, test)),
        marker_html.verdict(test),
        marker_html.maps(image, test),
        marker_html.numbers(image, test, _name(asked)),
    ]


def _swept(
    workbench: Workbench, found: Kept[Case] | None, choice: Chosen | None, percent: float, typed: str
) -> list[Any]:
    image, model = workbench.asked(found, choice)
    backbone = workbench.backbone(model.model)
    asked = _asked(workbench, image, typed)
    with workbench.alone():
        result = all_places(
            backbone,
            model.neurons,
            image.picture.image,
            size=percent / 100,
            asked=asked,
            num_registers=workbench.num_registers,
        )
    return [marker_html.places(result), ""]


def _asked(workbench: Workbench, image: Case, typed: str) -> Reader | TextReader | None:
    """Return what answers: the typed texts, else the head that fits, else nothing."""
    if (typed or "").strip():
        return read_classes(workbench.backbone(image.model), read_texts(typed))
    return workbench.head_for(image)


def _name(asked: Reader | TextReader | None) -> str:
    if isinstance(asked, Reader):
        images = counted(asked.calibrated_on, "image")
        checked = f"calibrated on {images}" if asked.calibrated_on else "not calibrated"
        return f"{asked.name}, {checked}"
    return "" if asked is None else "the texts you typed, by CLIP’s own measure"
