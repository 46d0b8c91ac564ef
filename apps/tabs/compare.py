"""The tab Compare: one image, its maps before and after, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ttr.apps.html import charts, explanations, panels, takeaway
from ttr.apps.html.panels import Look
from ttr.apps.image.case import Case
from ttr.apps.image.intake import Picture, take_in
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import window as window_controls
from ttr.apps.tabs.download import download
from ttr.apps.tabs.events import ALONE, AT_ONCE, FORGOTTEN, READING, Turn, done, guarded, read_in_turn
from ttr.apps.tabs.look import CUT, SMOOTH, opacity_slider, style_radio, view_radio
from ttr.apps.tabs.models import model_box
from ttr.datasets.dicom import Window
from ttr.datasets.registry import sample_paths
from ttr.errors import TTRError

NAME = "Compare"
MEAN = "mean of heads"
SHARED, OWN = "shared", "own"
#: A block number typed beyond the last block is the last block.
WITHIN = (
    "(shown, layer, ...rest) => { const range = document.querySelector('#layer input[type=range]'); "
    "return [shown, Math.min(Math.max(layer, +range.min), +range.max), ...rest]; }"
)


@dataclass(frozen=True)
class Controls:
    """The widgets that decide how the maps are looked at."""

    layer: gr.Slider
    head: gr.Dropdown
    query: gr.Dropdown
    style: gr.Radio
    scale: gr.Radio
    opacity: gr.Slider

    def all(self) -> list[Any]:
        """Return them in the order in which :func:`look` takes their values."""
        return [self.layer, self.head, self.query, self.style, self.scale]


def look(layer: float, head: str, query: str, style: str, scale: str) -> Look:
    """Return the values of the controls as a look."""
    return Look(
        int(layer), None if head == MEAN else int(head.split()[-1]), query, style == SMOOTH, scale == SHARED
    )


@dataclass(frozen=True)
class Opening:
    """What opens an image of another tab in this one.

    Attributes:
        opened: from what was read and the values of ``inputs`` to those of ``outputs``.
        inputs: widgets.
        outputs: widgets.
        turn: a Turn, the visitor's.
        found: what was read last.
    """

    opened: Callable[..., list[Any]]
    inputs: list[Any]
    outputs: list[Any]
    turn: gr.State
    found: gr.State

    def read(self, event: Any, path: Callable[..., str | None], asked: list[Any]) -> Any:
        """After an event, read the image at ``path`` of the values of ``asked``, and open it.

        Reading holds up no pass of another visitor, and of what is read in a row the last is opened.
        """

        def read(turn: Turn, *values: Any) -> Any:
            place = path(*values)
            return None if place is None else read_in_turn(lambda: take_in(place), turn)

        reading = event(read, [self.turn, *asked], self.found, **READING)
        return reading.success(self.opened, [self.found, *self.inputs], self.outputs, **ALONE)

    def on(self, event: Any, path: Callable[..., str | None], asked: list[Any], tabs: gr.Tabs) -> None:
        """After an event, open the image at ``path`` of the values of ``asked``, and turn to this tab."""
        chosen = gr.State(None)
        found = self.read(event(path, asked, chosen, **AT_ONCE).success, lambda place: place, [chosen])
        found.success(lambda: gr.update(selected=NAME), None, tabs, **AT_ONCE)


def compare_tab(workbench: Workbench, blocks: gr.Blocks, case: gr.State, chosen: gr.State) -> Opening:
    """Lay out the tab; it keeps ``case`` and ``chosen`` (a Case and a Chosen) for the other tabs too."""
    with gr.Row(elem_classes="ttr-columns"):
        with gr.Column(scale=2, min_width=250):
            upload = gr.File(label="Image (PNG, JPEG, TIFF or DICOM)", height=150)
            with gr.Row():
                samples = {
                    name: gr.Button(f"Sample: {name}", size="sm", min_width=90) for name in sample_paths()
                }
            thumbnail = gr.HTML()
            window = window_controls.window_box()
            changed = model_box(workbench, blocks, chosen)
        with gr.Column(scale=6, min_width=320):
            status = gr.HTML(elem_id="status")
            maps, norms, colours, curves = _maps()
            controls = _controls()
        with gr.Column(scale=3, min_width=280):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="numbers")
            with gr.Row():
                asked = [case, *controls.all(), controls.opacity]
                download(
                    "Export ZIP", "ttr-study.zip", lambda *v: _exported(takeaway.zip_of, *v), asked, status
                )
                download(
                    "Export PDF", "ttr-study.pdf", lambda *v: _exported(takeaway.pdf_of, *v), asked, status
                )
    shown = [case, status, thumbnail, maps, norms, colours, curves, numbers, *controls.all()[:3]]
    shown += window.outputs()

    def analyse(picture: Picture, choice: Any, *seen: Any) -> list[Any]:
        found = workbench.case(picture, choice or workbench.choose(workbench.names[0]))
        return _shown(found, seen)

    def opened(found: Picture | TTRError | None, choice: Any, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * len(shown)
        return guarded(lambda: analyse(done(found), choice, *seen), len(shown))

    def again(found: Case | None, choice: Any, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * len(shown)
        return guarded(lambda: analyse(found.picture, choice, *seen), len(shown))

    def windowed(found: Case | None, choice: Any, wanted: Window | None, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * len(shown)
        return guarded(lambda: analyse(found.picture.in_window(wanted), choice, *seen), len(shown))

    def preset(found: Case | None, choice: Any, name: str, *seen: Any) -> list[Any]:
        wanted = None if found is None else window_controls.named(found.picture, name)
        return windowed(found, choice, wanted, *seen)

    def typed(found: Case | None, choice: Any, center: float, width: float, *seen: Any) -> list[Any]:
        return windowed(found, choice, window_controls.typed(center, width), *seen)

    inputs = [chosen, *controls.all()]
    turn, read = gr.State(Turn()), gr.State(None, time_to_live=FORGOTTEN)
    opening = Opening(opened, inputs, shown, turn, read)
    opening.read(upload.upload, lambda path: path, [upload])
    for name, button in samples.items():
        opening.read(button.click, partial(str, sample_paths()[name]), [])
    for event in changed:
        event.then(again, [case, *inputs], shown, **ALONE)
    # A dropdown of the library says input twice, and the second answer would undo what was typed since.
    window.preset.select(preset, [case, chosen, window.preset, *controls.all()], shown, **ALONE)
    window.apply.click(typed, [case, chosen, window.center, window.width, *controls.all()], shown, **ALONE)
    opening.read(blocks.load, partial(str, sample_paths()["chest"]), [])

    def looked(found: Case | None, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * 3
        at = look(*seen)
        return [panels.attention(found, at), panels.norms(found, at), panels.colours(found, at)]

    for control in controls.all():
        control.input(looked, [case, *controls.all()], [maps, norms, colours], js=WITHIN, **AT_ONCE)
    return opening


def _maps() -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.Plot]:
    with gr.Tabs():
        with gr.Tab("Attention"):
            maps = gr.HTML(elem_id="maps")
            gr.HTML(explanations.why(explanations.ATTENTION))
        with gr.Tab("Norms"):
            norms = gr.HTML(elem_id="norms")
            gr.HTML(explanations.why(explanations.NORMS))
        with gr.Tab("PCA colours"):
            colours = gr.HTML(elem_id="colours")
            gr.HTML(explanations.why(explanations.COLOURS))
        with gr.Tab("By block"):
            curves = gr.Plot(show_label=False, elem_id="curves")
            gr.HTML(explanations.why(explanations.CURVES))
    return maps, norms, colours, curves


def _controls() -> Controls:
    gr.HTML(CUT)
    with gr.Row():
        layer = gr.Slider(0, 11, 11, step=1, label="Block (layer)", min_width=240, elem_id="layer")
        opacity = opacity_slider("opacity", min_width=240)
    with gr.Row():
        head = gr.Dropdown([MEAN], value=MEAN, label="Attention head", min_width=150, elem_id="head")
        query = gr.Dropdown(["CLS"], value="CLS", label="Attention of", min_width=150, elem_id="query")
    with gr.Row():
        view_radio("view")
        style = style_radio()
        scale = gr.Radio([SHARED, OWN], value=SHARED, label="Colour scale", min_width=170, elem_id="scale")
    return Controls(layer, head, query, style, scale, opacity)


def _exported(kind: Callable[..., bytes], found: Case | None, *seen: Any) -> bytes | None:
    *at, opacity = seen
    return None if found is None else kind(found, look(*at), opacity / 100)


def _shown(found: Case, seen: tuple[Any, ...]) -> list[Any]:
    """Return the new values of all that shows a case; controls keep their place where they can."""
    inspection = found.inspection
    heads = [MEAN, *(f"head {index}" for index in range(inspection.heads))]
    queries = list(inspection.after.queries)
    layer, head, query, style, scale = seen
    last = inspection.layers - 1
    head, query = head if head in heads else MEAN, query if query in queries else "CLS"
    layer = int(layer) if layer <= last else last
    at = look(layer, head, query, style, scale)
    return [
        found,
        "",
        panels.thumbnail(found),
        panels.attention(found, at),
        panels.norms(found, at),
        panels.colours(found, at),
        charts.block_curves(inspection.comparison),
        panels.numbers(found),
        gr.update(maximum=last, value=layer),
        gr.update(choices=heads, value=head),
        gr.update(choices=queries, value=query),
        *window_controls.values(found.picture),
    ]
