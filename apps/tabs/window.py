"""The box that chooses a DICOM image's window: one of the file's, a usual one of a CT, or typed numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ttr.apps.image.intake import Picture
from ttr.apps.image.plate import shown_window
from ttr.apps.tabs.events import IN_BROWSER
from ttr.datasets.dicom.radiograph import Window

FIRST, OWN = "as the file says", "typed below"
#: A window that was dragged stands in the boxes for numbers, to be applied.
DRAGGED = "document.addEventListener('ttr-window', () => trigger('select'));"


@dataclass(frozen=True)
class WindowBox:
    """The widgets of the box."""

    box: gr.Group
    preset: gr.Dropdown
    center: gr.Number
    width: gr.Number
    apply: gr.Button

    def outputs(self) -> list[Any]:
        """Return what :func:`values` has values for."""
        return [self.box, self.preset, self.center, self.width]


def window_box() -> WindowBox:
    """Lay out the box, hidden until there is a DICOM image."""
    with gr.Group(visible=False) as box:
        preset = gr.Dropdown([FIRST], label="Window", value=FIRST)
        with gr.Row():
            center = gr.Number(label="Centre", value=None, min_width=80)
            width = gr.Number(label="Width", value=None, min_width=80)
        apply = gr.Button("Apply this window", size="sm")
    dragged = gr.HTML(visible="hidden", js_on_load=DRAGGED)
    dragged.select(None, None, [center, width], js="() => ttrViewer.window", **IN_BROWSER)
    return WindowBox(box, preset, center, width, apply)


def named(picture: Picture, name: str) -> Window | None:
    """Return a picture's window of that name; None: the file's first."""
    return next((window for window in picture.windows if window.name == name), None)


def typed(center: float | None, width: float | None) -> Window:
    """Return the window that was typed."""
    return Window(OWN, float(center or 0), float(width or 0))


def values(picture: Picture) -> list[Any]:
    """Return the box as it is for a picture."""
    current = picture.window
    behind = picture.radiograph
    numbers = (None, None) if behind is None or behind.values.ndim == 3 else shown_window(behind, current)
    choices = [FIRST, *(window.name for window in picture.windows)]
    choices += [OWN] if current and current.name == OWN else []
    return [
        gr.update(visible=behind is not None and behind.values.ndim == 2),
        gr.update(choices=choices, value=current.name if current else FIRST),
        *numbers,
    ]
