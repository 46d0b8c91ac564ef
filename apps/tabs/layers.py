"""The tab Layers: what each block's tokens hold, how alike registers are, how faithful a map is by block."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ttr.apps.html import charts, explanations
from ttr.apps.html import integration as integration_html
from ttr.apps.html import result_tables as tables
from ttr.apps.tabs.chooser import Contents, over_results
from ttr.apps.tabs.events import AT_ONCE, guarded
from ttr.apps.tabs.parts import Section, heading
from ttr.studies.ablate.folder import Folder
from ttr.studies.ablate.layer_charts import layer_tasks, probing_curves, register_cosines
from ttr.studies.ablate.task_charts import metric_name
from ttr.studies.integrate.charts import faithfulness_by_block
from ttr.studies.results import Results
from ttr.studies.schemas import ABLATION, INTEGRATION

FIRST = "centred cosine"
QUANTITIES = {FIRST: "centred", "plain cosine": "cosine", "linear CKA": "cka"}


def layers_tab(results: Results, tab: gr.Tab, chosen: gr.State) -> None:
    """Lay out the tab; ``chosen`` is the name of the ablation that the tabs share."""

    def of_ablation(names: gr.Dropdown, said: gr.HTML) -> Contents:
        with gr.Row(elem_classes="ttr-columns"):
            with gr.Column(min_width=340):
                probing = _probing()
            with gr.Column(min_width=340):
                dense = _dense()
        parts = [probing, dense, _cosines()]

        def show(name: str) -> list[Any]:
            folder = results.ablation(name)
            return [value for part in parts for value in part.show(folder)]

        return [widget for part in parts for widget in part.outputs], show

    def of_integration(names: gr.Dropdown, said: gr.HTML) -> Contents:
        return _faithfulness(results, names, said)

    over_results(results, ABLATION, tab, chosen, explanations.MAKE_ABLATION, of_ablation)
    heading("Is the map faithful, block by block?")
    over_results(results, INTEGRATION, tab, gr.State(None), explanations.MAKE_INTEGRATION, of_integration)


def _probing() -> Section:
    heading("A linear probe of CLS and of each register")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column() as body:
        plot = gr.Plot(show_label=False, elem_id="probing", elem_classes="ttr-plot")
        numbers = gr.HTML(elem_id="probing-numbers")
        gr.HTML(explanations.why(explanations.PROBING))

    def show(folder: Folder) -> list[Any]:
        table = folder.tables["probing"]
        chance = 100 * float(table["chance"].iloc[0])
        caption = f"Accuracy in per cent with 95 % intervals; chance is {chance:.1f}."
        text = tables.by_block(
            table, "token", "accuracy", "The numbers", caption, scale=100, pattern="{:.1f}"
        )
        return [charts.on_page(probing_curves(table)), text]

    return Section([plot, numbers], show).where("probing", missing, body, explanations.ANALYSES)


def _dense() -> Section:
    heading("Tasks about places, on each block’s patches")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column() as body:
        plot = gr.Plot(show_label=False, elem_id="dense", elem_classes="ttr-plot")
        numbers = gr.HTML()
        gr.HTML(explanations.why(explanations.DENSE))

    def show(folder: Folder) -> list[Any]:
        table = folder.tables["layers"]
        named = table.assign(name=[metric_name(*at) for at in zip(table.task, table.metric, strict=True)])
        caption = "In per cent, with 95 % intervals."
        text = tables.by_block(named, "name", "value", "The numbers", caption, scale=100, pattern="{:.1f}")
        return [charts.on_page(layer_tasks(table)), text]

    return Section([plot, numbers], show).where("layers", missing, body, explanations.DENSE_TASKS)


def _cosines() -> Section:
    heading("How alike the registers are")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column(elem_classes="ttr-narrow") as body:
        plot = gr.Plot(show_label=False, elem_id="cosines", elem_classes="ttr-plot")
        numbers = gr.HTML()
        gr.HTML(explanations.why(explanations.COSINES))

    def show(folder: Folder) -> list[Any]:
        table = folder.tables["registers"]
        return [charts.on_page(register_cosines(table)), tables.cosines(table)]

    return Section([plot, numbers], show).where("registers", missing, body, explanations.COSINES_BY)


def _faithfulness(results: Results, names: gr.Dropdown, said: gr.HTML) -> Contents:
    about = gr.HTML()
    with gr.Row():
        model = gr.Dropdown([], label="Model", min_width=220, elem_id="faithful-model")
        registers = gr.Dropdown([], label="Test-time registers", elem_id="faithful-registers")
        quantity = gr.Radio(list(QUANTITIES), value=FIRST, label="Compared by", elem_id="faithful-by")
    plot = gr.Plot(show_label=False, elem_id="faithful", elem_classes="ttr-plot")
    numbers = gr.HTML(elem_id="faithful-numbers")
    gr.HTML(explanations.why(explanations.FAITHFUL))

    def draw(name: str, backbone: str, count: str, by: str) -> list[Any]:
        """Return the menu of registers, the figure and its numbers for a choice, or for the nearest to it."""
        table = results.integration(name).table
        counts = integration_html.counts(table, backbone)
        count = count if count in counts else next(iter(counts))
        drawn = faithfulness_by_block(table, backbone, counts[count], QUANTITIES[by])
        text = integration_html.numbers(table, backbone, counts[count])
        return [gr.update(choices=list(counts), value=count), charts.on_page(drawn), text]

    def looked(name: str, *choice: str) -> list[Any]:
        return guarded(lambda: [*draw(name, *choice), ""], 4, message=3)

    for control in (model, registers, quantity):
        control.input(
            looked, [names, model, registers, quantity], [registers, plot, numbers, said], **AT_ONCE
        )

    def show(name: str) -> list[Any]:
        found = results.integration(name)
        models = list(dict.fromkeys(found.table["backbone"]))
        return [
            integration_html.about(found),
            gr.update(choices=models, value=models[0]),
            *draw(name, models[0], "", FIRST),
            FIRST,
        ]

    return [about, model, registers, plot, numbers, quantity], show
