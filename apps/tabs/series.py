"""What stands beside a stack: which series is shown where several were given, and what asks for maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ttr.apps.html import stack as stack_html
from ttr.apps.html.panels import message
from ttr.apps.image.series import Given, Series
from ttr.errors import ImageError

#: A slice that stays is asked for as a select of a place that nobody sees.
STAYED = "document.addEventListener('ttr-slice', () => trigger('select'));"
ASKED = "(...inputs) => [...inputs.slice(0, -1), ttrViewer.slice ?? 0]"


@dataclass(frozen=True)
class SeriesBox:
    """The widgets of a stack: what was given and the choice among its series; the bar; what is asked for."""

    given: gr.State
    box: gr.Group
    said: gr.HTML
    choice: gr.Dropdown
    bar: gr.HTML
    stayed: gr.HTML

    def outputs(self) -> list[Any]:
        """Return what :func:`values` and :func:`empty` have values for: the choice, then the bar."""
        return [self.given, self.box, self.said, self.choice, self.bar]


def series_box(given: gr.State, bar: gr.HTML) -> SeriesBox:
    """Lay out the choice, hidden until files of several series are given."""
    with gr.Group(visible=False) as box:
        said = gr.HTML(elem_id="series-said")
        choice = gr.Dropdown([], label="Series", elem_id="series")
    return SeriesBox(given, box, said, choice, bar, gr.HTML(visible="hidden", js_on_load=STAYED))


def values(given: Given | None, chosen: Series | None, bar: Any) -> list[Any]:
    """Return the widgets as they are for what was given, and the bar of its stack."""
    if given is None or (len(given.series) < 2 and not given.refused):
        return [given, gr.update(visible=False), "", gr.skip(), bar]
    labels = [each.label for each in given.series]
    files = sum(len(each.sources) for each in given.series)
    shown = chosen or given.series[0]
    said = stack_html.choice(labels, files) + message(given.refused)
    choice = gr.update(choices=labels, value=shown.label, visible=len(labels) > 1)
    return [given, gr.update(visible=True), said, choice, bar]


def kept(bar: Any) -> list[Any]:
    """Return the choice as it was, and the bar."""
    return [*[gr.skip()] * 4, bar]


def empty() -> list[Any]:
    """Return the same where nothing was given."""
    return [None, gr.update(visible=False), "", gr.skip(), ""]


def of_label(given: Given | None, label: str) -> tuple[Given, Series]:
    """Return what was given, and the series of that label.

    Raises:
        ImageError: there is none.
    """
    found = next((each for each in given.series if each.label == label), None) if given else None
    if given is None or found is None:
        raise ImageError("this series is not here any more; give its files again")
    return given, found
