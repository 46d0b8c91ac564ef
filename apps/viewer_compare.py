"""The tab Compare: one image, its maps before and after, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ttr.apps import export, figures, panels, words
from ttr.apps.events import ALONE, AT_ONCE, guarded
from ttr.apps.intake import Picture, take_in
from ttr.apps.panels import Look
from ttr.apps.study import Study
from ttr.apps.viewer_export import download
from ttr.apps.viewer_models import model_box
from ttr.apps.workbench import Workbench
from ttr.datasets.dicom import Window
from ttr.datasets.registry import sample_paths

NAME = "Compare"
MEAN = "mean of heads"
BOTH, SWIPE = "both", "swipe"
RAW, SMOOTH = "raw", "smooth"
SHARED, OWN = "shared", "own"
FIRST_WINDOW, OWN_WINDOW = "as the file says", "typed below"
SHOW_VIEW = (
    f"(v) => {{ document.documentElement.dataset.ttrView = v === '{SWIPE}' ? 'swipe' : 'side'; return []; }}"
)
SHOW_OPACITY = "(v) => { document.documentElement.style.setProperty('--ttr-opacity', v / 100); return []; }"
#: A block number typed beyond the last block is the last block.
WITHIN = (
    "(study, layer, ...rest) => { const range = document.querySelector('#layer input[type=range]'); "
    "return [study, Math.min(Math.max(layer, +range.min), +range.max), ...rest]; }"
)
CUT = (
    '<div class="ttr-cut"><label>Before <input type="range" min="0" max="100" value="50" '
    'aria-label="Swipe: share of the image that shows before, in percent" '
    "oninput=\"document.documentElement.style.setProperty('--ttr-cut', this.value + '%')\">"
    " After</label></div>"
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
        opened: from a path and the values of ``inputs`` to those of ``outputs``.
        inputs: widgets.
        outputs: widgets.
    """

    opened: Callable[..., list[Any]]
    inputs: list[Any]
    outputs: list[Any]

    def on(self, event: Any, path: Callable[..., str | None], asked: list[Any], tabs: gr.Tabs) -> None:
        """After an event, open the image at ``path`` of the values of ``asked``, and turn to this tab."""
        chosen = gr.State(None)
        found = event(path, asked, chosen, **AT_ONCE)
        found = found.success(self.opened, [chosen, *self.inputs], self.outputs, **ALONE)
        found.success(lambda: gr.update(selected=NAME), None, tabs, **AT_ONCE)


def compare_tab(workbench: Workbench, blocks: gr.Blocks, study: gr.State, chosen: gr.State) -> Opening:
    """Lay out the tab; it keeps ``study`` and ``chosen`` (a Study and a Chosen) for the other tabs too."""
    with gr.Row(elem_classes="ttr-columns"):
        with gr.Column(scale=2, min_width=250):
            upload = gr.File(label="Image (PNG, JPEG, TIFF or DICOM)", height=150)
            with gr.Row():
                samples = {
                    name: gr.Button(f"Sample: {name}", size="sm", min_width=90) for name in sample_paths()
                }
            thumbnail = gr.HTML()
            with gr.Group(visible=False) as window_box:
                window = gr.Dropdown([FIRST_WINDOW], label="Window", value=FIRST_WINDOW)
                with gr.Row():
                    center = gr.Number(label="Centre", value=0, min_width=80)
                    width = gr.Number(label="Width", value=0, min_width=80)
                apply = gr.Button("Apply this window", size="sm")
            changed = model_box(workbench, chosen)
        with gr.Column(scale=6, min_width=320):
            status = gr.HTML(elem_id="status")
            maps, norms, colours, curves = _maps()
            controls = _controls()
        with gr.Column(scale=3, min_width=280):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="numbers")
            with gr.Row():
                asked = [study, *controls.all(), controls.opacity]
                download(
                    "Export ZIP", "ttr-study.zip", lambda *v: _exported(export.zip_of, *v), asked, status
                )
                download(
                    "Export PDF", "ttr-study.pdf", lambda *v: _exported(export.pdf_of, *v), asked, status
                )
    shown = [study, status, thumbnail, maps, norms, colours, curves, numbers, *controls.all()[:3]]
    shown += [window_box, window, center, width]

    def analyse(picture: Picture, choice: Any, *seen: Any) -> list[Any]:
        found = workbench.study(picture, choice or workbench.choose(workbench.names[0]))
        return _shown(found, seen)

    def opened(path: str | None, choice: Any, *seen: Any) -> list[Any]:
        if path is None:
            return [gr.skip()] * len(shown)
        return guarded(lambda: analyse(take_in(path), choice, *seen), len(shown))

    def again(found: Study | None, choice: Any, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * len(shown)
        return guarded(lambda: analyse(found.picture, choice, *seen), len(shown))

    def windowed(found: Study | None, choice: Any, wanted: Any, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * len(shown)
        return guarded(
            lambda: analyse(found.picture.in_window(wanted(found.picture)), choice, *seen), len(shown)
        )

    def preset(found: Study | None, choice: Any, name: str, *seen: Any) -> list[Any]:
        return windowed(found, choice, lambda p: next((w for w in p.windows if w.name == name), None), *seen)

    def typed(found: Study | None, choice: Any, c: float, w: float, *seen: Any) -> list[Any]:
        return windowed(found, choice, lambda _: Window(OWN_WINDOW, float(c or 0), float(w or 0)), *seen)

    inputs = [chosen, *controls.all()]
    upload.upload(opened, [upload, *inputs], shown, **ALONE)
    for name, button in samples.items():
        button.click(partial(opened, str(sample_paths()[name])), inputs, shown, **ALONE)
    for event in changed:
        event.then(again, [study, *inputs], shown, **ALONE)
    # A dropdown of the library says input twice, and the second answer would undo what was typed since.
    window.select(preset, [study, chosen, window, *controls.all()], shown, **ALONE)
    apply.click(typed, [study, chosen, center, width, *controls.all()], shown, **ALONE)
    blocks.load(lambda *given: opened(str(sample_paths()["chest"]), *given), inputs, shown, **ALONE)

    def looked(found: Study | None, *seen: Any) -> list[Any]:
        if found is None:
            return [gr.skip()] * 3
        at = look(*seen)
        return [panels.attention(found, at), panels.norms(found, at), panels.colours(found, at)]

    for control in controls.all():
        control.input(looked, [study, *controls.all()], [maps, norms, colours], js=WITHIN, **AT_ONCE)
    return Opening(opened, inputs, shown)


def _maps() -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.Plot]:
    with gr.Tabs():
        with gr.Tab("Attention"):
            maps = gr.HTML(elem_id="maps")
            gr.HTML(words.why(words.ATTENTION))
        with gr.Tab("Norms"):
            norms = gr.HTML(elem_id="norms")
            gr.HTML(words.why(words.NORMS))
        with gr.Tab("PCA colours"):
            colours = gr.HTML(elem_id="colours")
            gr.HTML(words.why(words.COLOURS))
        with gr.Tab("By block"):
            curves = gr.Plot(show_label=False, elem_id="curves")
            gr.HTML(words.why(words.CURVES))
    return maps, norms, colours, curves


def _controls() -> Controls:
    gr.HTML(CUT)
    with gr.Row():
        layer = gr.Slider(0, 11, 11, step=1, label="Block (layer)", min_width=240, elem_id="layer")
        opacity = gr.Slider(
            0, 100, 50, step=1, label="Opacity of the map, %", min_width=240, elem_id="opacity"
        )
    with gr.Row():
        head = gr.Dropdown([MEAN], value=MEAN, label="Attention head", min_width=150, elem_id="head")
        query = gr.Dropdown(["CLS"], value="CLS", label="Attention of", min_width=150, elem_id="query")
    with gr.Row():
        view = gr.Radio([BOTH, SWIPE], value=BOTH, label="View", min_width=190, elem_id="view")
        style = gr.Radio([RAW, SMOOTH], value=RAW, label="Map", min_width=150)
        scale = gr.Radio([SHARED, OWN], value=SHARED, label="Colour scale", min_width=170, elem_id="scale")
    view.input(None, view, None, js=SHOW_VIEW, api_visibility="private")
    opacity.input(None, opacity, None, js=SHOW_OPACITY, api_visibility="private")
    return Controls(layer, head, query, style, scale, opacity)


def _exported(kind: Callable[..., bytes], found: Study | None, *seen: Any) -> bytes | None:
    *at, opacity = seen
    return None if found is None else kind(found, look(*at), opacity / 100)


def _shown(found: Study, seen: tuple[Any, ...]) -> list[Any]:
    """Return the new values of all that shows a study; controls keep their place where they can."""
    inspection = found.inspection
    heads = [MEAN, *(f"head {index}" for index in range(inspection.heads))]
    queries = list(inspection.after.queries)
    layer, head, query, style, scale = seen
    last = inspection.layers - 1
    head, query = head if head in heads else MEAN, query if query in queries else "CLS"
    layer = int(layer) if layer <= last else last
    at = look(layer, head, query, style, scale)
    current = found.picture.window
    windows = [FIRST_WINDOW, *(window.name for window in found.picture.windows)]
    windows += [OWN_WINDOW] if current and current.name == OWN_WINDOW else []
    return [
        found,
        "",
        panels.thumbnail(found),
        panels.attention(found, at),
        panels.norms(found, at),
        panels.colours(found, at),
        figures.block_curves(inspection.comparison),
        panels.numbers(found),
        gr.update(maximum=last, value=layer),
        gr.update(choices=heads, value=head),
        gr.update(choices=queries, value=query),
        gr.update(visible=len(windows) > 1 or found.picture.radiograph is not None),
        gr.update(choices=windows, value=current.name if current else FIRST_WINDOW),
        gr.update() if current is None else current.center,
        gr.update() if current is None else current.width,
    ]
