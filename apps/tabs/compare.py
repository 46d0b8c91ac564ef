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
from ttr.apps.image.memory import Kept, value_of
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import window as window_controls
from ttr.apps.tabs.download import download
from ttr.apps.tabs.given import given
from ttr.apps.tabs.look import CUT, SMOOTH, opacity_slider, style_radio, view_radio
from ttr.apps.tabs.models import model_box
from ttr.apps.tabs.window import WindowBox
from ttr.datasets.registry import sample_paths

NAME = "Compare"
MEAN = "mean of heads"
SHARED, OWN = "shared", "own"


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
class Widgets:
    """The widgets of the tab, and the events: a file was given to ``upload``, another model was chosen."""

    upload: gr.File
    given: Callable[..., Any]
    samples: dict[str, gr.Button]
    window: WindowBox
    status: gr.HTML
    pictures: list[Any]
    maps: list[Any]
    controls: Controls
    exports: list[gr.Button]
    changed: list[Any]

    def outputs(self, case: gr.State) -> list[Any]:
        """Return what :func:`shown` and :func:`empty` have values for."""
        seen = [*self.pictures, *self.maps, *self.controls.all()[:3], *self.window.outputs(), *self.exports]
        return [case, self.status, *seen]


def compare_tab(workbench: Workbench, blocks: gr.Blocks, case: gr.State, chosen: gr.State) -> Widgets:
    """Lay out the tab; it keeps ``case`` and ``chosen`` (a kept Case and a Chosen) for the other tabs too."""
    with gr.Row(elem_classes="ttr-columns"):
        with gr.Column(scale=2, min_width=250):
            upload = gr.File(label="Image (PNG, JPEG, TIFF or DICOM)", height=150, elem_id="image")
            given_here = given("image")
            with gr.Row():
                samples = {
                    name: gr.Button(f"Sample: {name}", size="sm", min_width=90) for name in sample_paths()
                }
            thumbnail = gr.HTML()
            window = window_controls.window_box()
            changed = model_box(workbench, blocks, chosen)
        with gr.Column(scale=6, min_width=320):
            status = gr.HTML(elem_id="status")
            *maps, curves = _maps()
            controls = _controls()
        with gr.Column(scale=3, min_width=280):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="numbers")
            with gr.Row():
                asked = [case, *controls.all(), controls.opacity]
                exports = [
                    download(
                        f"Export {kind}", f"ttr-study.{kind.lower()}", partial(_exported, make), asked, status
                    )
                    for kind, make in (("ZIP", takeaway.zip_of), ("PDF", takeaway.pdf_of))
                ]
    pictures = [thumbnail, curves, numbers]
    return Widgets(upload, given_here, samples, window, status, pictures, maps, controls, exports, changed)


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


def _exported(make: Callable[..., bytes], kept: Kept[Case] | None, *seen: Any) -> bytes:
    found, at = value_of(kept), look(*seen[:-1])
    found.inspection.check(at.layer, at.head, at.query)
    return make(found, at, min(max(seen[-1] / 100, 0), 1))


def maps(found: Case, at: Look) -> list[str]:
    """Return the three maps of a case as HTML."""
    return [panels.attention(found, at), panels.norms(found, at), panels.colours(found, at)]


def shown(kept: Kept[Case], seen: tuple[Any, ...]) -> list[Any]:
    """Return the values of all that shows a case; controls keep their place where they can."""
    found = kept.used()
    inspection = found.inspection
    heads = [MEAN, *(f"head {index}" for index in range(inspection.heads))]
    queries = list(inspection.after.queries)
    layer, head, query, style, scale = seen
    last = inspection.layers - 1
    head, query = head if head in heads else MEAN, query if query in queries else "CLS"
    layer = int(layer) if layer <= last else last
    return [
        kept,
        "",
        *(panels.thumbnail(found), charts.block_curves(inspection.comparison), panels.numbers(found)),
        *maps(found, look(layer, head, query, style, scale)),
        gr.update(maximum=last, value=layer),
        gr.update(choices=heads, value=head),
        gr.update(choices=queries, value=query),
        *window_controls.values(found.picture),
        *[gr.update(interactive=True)] * 2,
    ]


def empty(said: str = "") -> list[Any]:
    """Return the values of the same when there is no image: nothing of a former one stays or is exported.

    ``said``: HTML for the place of refusals.
    """
    controls = [gr.skip()] * 3
    window = [gr.update(visible=False), *[gr.skip()] * 3]
    return [None, said, "", None, "", "", "", "", *controls, *window, *[gr.update(interactive=False)] * 2]
