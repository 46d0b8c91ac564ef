"""The tab Compare: one image, its maps before and after, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ttr.apps.html import beside, charts, explanations, panels, takeaway
from ttr.apps.html.blocks import all_blocks
from ttr.apps.html.panels import Look
from ttr.apps.image.case import Case
from ttr.apps.image.dicom_out import dicom_of
from ttr.apps.image.memory import Kept, value_of
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import window as window_controls
from ttr.apps.tabs.beside import beside_box
from ttr.apps.tabs.download import download
from ttr.apps.tabs.events import AT_ONCE
from ttr.apps.tabs.given import given
from ttr.apps.tabs.look import CUT, LookControls, is_surface, look_controls, looked_at, view_radio
from ttr.apps.tabs.models import model_box
from ttr.apps.tabs.series import SeriesBox, series_box
from ttr.apps.tabs.window import WindowBox
from ttr.datasets.registry import sample_paths

NAME = "Compare"
MEAN = "mean of heads"
#: A screen reader tells what is written there; the place must be there before the words.
TOLD = "element.setAttribute('role', 'status');"
#: What is in force on each of the inner tabs.
IN_FORCE = {
    "Attention": {"block", "head", "view", "laid", "surface", "scale"},
    "Norms": {"block", "view", "laid", "surface", "scale"},
    "PCA colours": {"view", "surface"},
    "By block": set[str](),
}


@dataclass(frozen=True)
class Controls:
    """The widgets that decide which maps are shown, and how they are looked at."""

    layer: gr.Slider
    head: gr.Dropdown
    query: gr.Dropdown
    view: gr.Radio
    look: LookControls

    def which(self) -> list[Any]:
        """Return those that decide which maps are shown, in the order in which :func:`look` takes them."""
        return [self.layer, self.head, self.query]

    def by_tab(self) -> list[Any]:
        """Return what :data:`IN_FORCE` is about: the widgets that a tab may have no use for."""
        at = self.look
        return [*self.which(), self.view, at.laid, at.opacity, at.style, at.scale, at.numbers]


def head_of(name: str) -> int | None:
    """Return the head of that name; None: the mean of all."""
    return None if name == MEAN else int(name.split()[-1])


def look(layer: float, head: str, query: str) -> Look:
    """Return the values of the controls as a look."""
    return Look(int(layer), head_of(head), query)


@dataclass(frozen=True)
class Widgets:
    """The widgets of the tab, and the events: a file was given to ``upload``, another model was chosen."""

    upload: gr.File
    given: Callable[..., Any]
    samples: dict[str, gr.Button]
    window: WindowBox
    series: SeriesBox
    status: gr.HTML
    pictures: list[Any]
    maps: list[Any]
    controls: Controls
    exports: list[gr.Button]
    changed: list[Any]

    def outputs(self, case: gr.State) -> list[Any]:
        """Return what :func:`shown` and :func:`empty` have values for."""
        seen = [*self.pictures, *self.maps, *self.controls.which(), *self.window.outputs(), *self.exports]
        return [case, self.status, *seen]


def compare_tab(workbench: Workbench, blocks: gr.Blocks, case: gr.State, chosen: gr.State) -> Widgets:
    """Lay out the tab; it keeps ``case`` and ``chosen`` (a kept Case and a Chosen) for the other tabs too.

    Maps fill the width beside one slim column; on a telephone they stand ahead of the controls.
    """
    with gr.Row(elem_classes="ttr-desk"):
        with gr.Column(elem_classes="ttr-source", min_width=0):
            upload = gr.File(
                label="Image (PNG, JPEG, TIFF or DICOM)", file_count="multiple", height=136, elem_id="image"
            )
            given_here = given("image")
            with gr.Row():
                samples = {
                    name: gr.Button(f"Sample: {name}", size="sm", min_width=80) for name in sample_paths()
                }
            picture = gr.HTML(elem_id="picture")
            series = series_box(
                gr.State(None, time_to_live=FORGOTTEN), gr.HTML(elem_id="stack", render=False)
            )
            window = window_controls.window_box()
            changed = [*model_box(workbench, blocks, chosen), *beside_box(workbench, chosen)]
        with gr.Column(elem_classes="ttr-stage", min_width=0):
            status = gr.HTML(elem_id="status")
            verdict = gr.HTML(elem_id="verdict", js_on_load=TOLD)
            series.bar.render()
            tabs, *maps, curves = _maps()
        with gr.Column(elem_classes="ttr-controls", min_width=0):
            controls = _controls()
        with gr.Column(elem_classes="ttr-below", min_width=0):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="numbers")
            with gr.Row():
                asked = [case, *controls.which(), *controls.look.all()]
                exports = [
                    download(
                        f"Export {kind}", f"ttr-study.{kind.lower()}", partial(_exported, make), asked, status
                    )
                    for kind, make in (("ZIP", takeaway.zip_of), ("PDF", takeaway.pdf_of))
                ]
                filed = partial(_filed, workbench)
                exports.append(download("Export DICOM", "ttr-dicom.zip", filed, [case], status))
    _connect(tabs, controls)
    pictures = [picture, verdict, curves, numbers]
    return Widgets(
        upload, given_here, samples, window, series, status, pictures, maps, controls, exports, changed
    )


def _maps() -> tuple[dict[str, gr.Tab], gr.HTML, gr.HTML, gr.HTML, gr.HTML, gr.Plot]:
    gr.HTML(CUT)
    every_block = gr.HTML(elem_id="blocks", visible="hidden")
    with gr.Tabs():
        with gr.Tab("Attention") as attention:
            maps = gr.HTML(elem_id="maps")
            gr.HTML(explanations.why(explanations.ATTENTION))
        with gr.Tab("Norms") as lengths:
            norms = gr.HTML(elem_id="norms")
            gr.HTML(explanations.why(explanations.NORMS))
        with gr.Tab("PCA colours") as components:
            colours = gr.HTML(elem_id="colours")
            gr.HTML(explanations.why(explanations.COLOURS))
        with gr.Tab("By block") as blocks:
            curves = gr.Plot(show_label=False, elem_id="curves")
            gr.HTML(explanations.why(explanations.CURVES))
    gr.HTML(explanations.words())
    tabs = dict(zip(IN_FORCE, (attention, lengths, components, blocks), strict=True))
    return tabs, maps, norms, colours, every_block, curves


def _controls() -> Controls:
    layer = gr.Slider(0, 11, 11, step=1, label="Block (layer)", elem_id="layer", elem_classes="ttr-block")
    head = gr.Dropdown([MEAN], value=MEAN, label="Attention head", elem_id="head")
    query = gr.Dropdown(["CLS"], value="CLS", label="Attention of", elem_id="query")
    return Controls(layer, head, query, view_radio("view"), look_controls("compare"))


def _connect(tabs: dict[str, gr.Tab], controls: Controls) -> None:
    """Let each inner tab put out of force what it has no use for."""
    for name, tab in tabs.items():
        tab.select(partial(_in_force, IN_FORCE[name]), controls.look.laid, controls.by_tab(), **AT_ONCE)


def _in_force(used: set[str], laid: str) -> list[Any]:
    surface = "surface" in used and (is_surface(laid) or "laid" not in used)
    by_head, by_scale = ["head" in used] * 2, ["scale" in used] * 2
    states = ["block" in used, *by_head, "view" in used, "laid" in used, surface, surface, *by_scale]
    return [gr.update(interactive=state) for state in states]


def _exported(make: Callable[..., bytes], kept: Kept[Case] | None, *seen: Any) -> bytes:
    found, (layer, head, query, *rest) = value_of(kept), seen
    at = looked_at(int(layer), head_of(head), query, *rest)
    found.inspection.check(at.layer, at.head, at.query)
    return make(found, at)


def _filed(workbench: Workbench, kept: Kept[Case] | None) -> bytes:
    return dicom_of(workbench, value_of(kept))


def maps(found: Case, at: Look) -> list[str]:
    """Return the three maps of a case as HTML, with those of a second choice, and every block's."""
    return [*beside.maps(found, at), all_blocks(found, at)]


def looked(found: Case, at: Look) -> list[Any]:
    """Return the same for another head or query of a case that is shown: colours depend on neither."""
    return [*beside.by_block(found, at), gr.skip(), all_blocks(found, at)]


def at_block(found: Case, at: Look) -> list[Any]:
    """Return the same for another block: every block's maps are in the browser."""
    return [*beside.by_block(found, at), gr.skip(), gr.skip()]


def shown(kept: Kept[Case], seen: tuple[Any, ...]) -> list[Any]:
    """Return the values of all that shows a case; controls keep their place where they can."""
    found = kept.used()
    inspection = found.inspection
    heads = [MEAN, *(f"head {index}" for index in range(inspection.heads))]
    queries = list(inspection.after.queries)
    curves = [(name, each.inspection.comparison) for name, each in beside.choices(found)]
    layer, head, query = seen
    last = inspection.layers - 1
    head, query = head if head in heads else MEAN, query if query in queries else "CLS"
    layer = int(layer) if layer <= last else last
    return [
        kept,
        "",
        *(panels.picture(found), beside.verdict(found)),
        *(charts.block_curves(curves), beside.numbers(found)),
        *maps(found, look(layer, head, query)),
        gr.update(maximum=last, value=layer),
        gr.update(choices=heads, value=head),
        gr.update(choices=queries, value=query),
        *window_controls.values(found.picture),
        *[gr.update(interactive=True)] * 2,
        gr.update(interactive=found.picture.origin is not None),
    ]


def empty(said: str = "") -> list[Any]:
    """Return the values of the same when there is no image: nothing of a former one stays or is exported.

    ``said``: HTML for the place of refusals.
    """
    controls = [gr.skip()] * 3
    window = [gr.update(visible=False), *[gr.skip()] * 3]
    exports = [gr.update(interactive=False)] * 3
    return [None, said, "", "", None, *[""] * 5, *controls, *window, *exports]
