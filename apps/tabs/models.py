"""The box that chooses a model and its register neurons: a preset, a file, or detected now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
from markupsafe import escape

from ttr.apps.image.intake import Picture, take_in
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Chosen, Workbench, read_neurons
from ttr.apps.tabs.events import ALONE, IN_A_ROW, READING, done, guarded, tried
from ttr.errors import TTRError
from ttr.wording import counted


def model_box(workbench: Workbench, blocks: gr.Blocks, chosen: gr.State) -> list[Any]:
    """Lay out the box; return the events after which ``chosen`` has a new value."""
    names = workbench.names
    with gr.Accordion("Model and register neurons", open=False):
        model = gr.Dropdown(names, value=names[0], label="Model", elem_id="model")
        source = gr.Dropdown([], label="Register neurons", elem_id="neurons")
        file = gr.File(label="Neurons from a file", height=130)
        own = gr.File(label="Images to detect on, or none", file_count="multiple", height=130)
        detect = gr.Button("Detect now", size="sm")
        said = gr.HTML(elem_id="neurons-said")
    outputs, pictures = [chosen, said, source], gr.State([], time_to_live=FORGOTTEN)

    def picked(former: Chosen | None, name: str, wanted: str | None = None) -> list[Any]:
        return guarded(lambda: _with_note(workbench, former, workbench.choose(name, wanted)), 3)

    def given(former: Chosen | None, path: str | None, name: str) -> list[Any]:
        if path is None:
            return [gr.skip()] * 3
        return guarded(
            lambda: _with_note(workbench, former, workbench.fitted(name, "from a file", read_neurons(path))),
            3,
        )

    def read(paths: list[str] | None) -> list[Picture] | TTRError:
        return tried(lambda: [take_in(path) for path in paths or []])

    def detected(former: Chosen | None, name: str, found: list[Picture] | TTRError) -> list[Any]:
        said = guarded(lambda: _with_note(workbench, former, workbench.detect(name, done(found))), 3)
        return [*said, []]

    blocks.load(picked, [chosen, model], outputs, **ALONE, **IN_A_ROW)
    return [
        model.select(picked, [chosen, model], outputs, **ALONE, **IN_A_ROW),
        source.select(picked, [chosen, model, source], outputs, **ALONE, **IN_A_ROW),
        file.upload(given, [chosen, file, model], outputs, **ALONE, **IN_A_ROW),
        detect.click(read, own, pictures, **READING).success(
            detected, [chosen, model, pictures], [*outputs, pictures], **ALONE
        ),
    ]


def _with_note(workbench: Workbench, former: Chosen | None, found: Chosen) -> list[Any]:
    """Return the new choice with what the former had beside it, and a note."""
    found = replace(found, beside=former.beside if former else None)
    known = workbench.sources(found.model)
    choices = known if found.source in known else [*known, found.source]
    note = f"{counted(len(found.neurons), 'neuron')}. {found.neurons.message} {found.caution}".strip()
    said = f'<p class="ttr-soft" role="status">{escape(note)}</p>'
    return [found, said, gr.update(choices=choices, value=found.source)]
