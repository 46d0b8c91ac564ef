"""The box that chooses a second model, or a second set of neurons, to be shown beside the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from ttr.apps.image.workbench import Chosen, Workbench
from ttr.apps.tabs.events import ALONE, IN_A_ROW, guarded
from ttr.registers.neurons import RegisterNeurons

NOBODY = "nothing"
BLANK = "none: blank tokens alone"
MOST_REGISTERS = 8


def beside_box(workbench: Workbench, chosen: gr.State) -> list[Any]:
    """Lay out the box; return the events after which ``chosen`` has a new value."""
    with gr.Accordion("Beside it", open=False):
        model = gr.Dropdown([NOBODY, *workbench.names], value=NOBODY, label="Second model", elem_id="second")
        source = gr.Dropdown(
            [], label="Its register neurons", visible=False, interactive=True, elem_id="second-neurons"
        )
        registers = gr.Slider(
            *(0, MOST_REGISTERS, workbench.num_registers),
            step=1,
            label="Its test-time registers",
            visible=False,
            elem_id="second-registers",
        )
        said = gr.HTML(elem_id="second-said")
    outputs = [chosen, said, source, registers]

    def picked(choice: Chosen | None, name: str, wanted: str | None, count: float) -> list[Any]:
        return guarded(lambda: _chosen(workbench, choice, name, wanted, int(count)), len(outputs))

    def named(choice: Chosen | None, name: str, count: float) -> list[Any]:
        return picked(choice, name, None, count)

    return [
        model.select(named, [chosen, model, registers], outputs, **ALONE, **IN_A_ROW),
        source.select(picked, [chosen, model, source, registers], outputs, **ALONE, **IN_A_ROW),
        registers.release(picked, [chosen, model, source, registers], outputs, **ALONE, **IN_A_ROW),
    ]


def _chosen(
    workbench: Workbench, choice: Chosen | None, name: str, wanted: str | None, registers: int
) -> list[Any]:
    first = choice or workbench.choose(workbench.names[0])
    if name == NOBODY:
        return [replace(first, beside=None), "", *[gr.update(visible=False)] * 2]
    sources = [*workbench.sources(name), BLANK]
    source = wanted or sources[0]
    found = (
        Chosen(name, BLANK, RegisterNeurons.from_pairs([]))
        if source == BLANK
        else workbench.choose(name, source)
    )
    second = replace(found, num_registers=registers)
    shown = [gr.update(choices=sources, value=source, visible=True), gr.update(visible=True)]
    return [replace(first, beside=second), "", *shown]
