"""The tab Ablation: what replacing tokens costs, where attention flows, and whether registers add up."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ttr.apps.html import charts, explanations
from ttr.apps.html import result_tables as tables
from ttr.apps.tabs.chooser import Contents, over_results
from ttr.apps.tabs.events import AT_ONCE, guarded
from ttr.apps.tabs.parts import Section, heading, values_of
from ttr.studies.ablate.attention_charts import (
    GROUPS,
    NAMES,
    attention_by_block,
    attention_flows,
    divergence_curves,
)
from ttr.studies.ablate.folder import Folder
from ttr.studies.ablate.task_charts import ablation_heatmap, additivity_bars, metric_name
from ttr.studies.results import Results
from ttr.studies.schemas import ABLATION

RAW, CHANGE = "value, %", "change from full, points"
SOURCES = {NAMES[group]: group for group in GROUPS}


def ablation_tab(results: Results, tab: gr.Tab, chosen: gr.State) -> None:
    """Lay out the tab; ``chosen`` is the name of the ablation that the tabs share."""

    def lay_out(names: gr.Dropdown, said: gr.HTML) -> Contents:
        about = gr.HTML(elem_id="ablation-about")
        parts = [
            _tasks(results, names, said),
            _flows(results, names, said),
            _divergence(results, names, said),
            _additivity(results, names, said),
            _geometry(),
        ]

        def show(name: str) -> list[Any]:
            folder = results.ablation(name)
            return [tables.about(folder), *(value for part in parts for value in part.show(folder))]

        return [about, *(widget for part in parts for widget in part.outputs)], show

    over_results(results, ABLATION, tab, chosen, explanations.MAKE_ABLATION, lay_out)


def _tasks(results: Results, names: gr.Dropdown, said: gr.HTML) -> Section:
    heading("What each condition costs")
    view = gr.Radio([RAW, CHANGE], value=RAW, label="Show", elem_id="heatmap-view")
    plot = gr.Plot(show_label=False, elem_id="heatmap", elem_classes=["ttr-plot", "ttr-wide"])
    gr.HTML(
        '<p class="ttr-soft">Bold, among the changes: distinguishable from no change. Point at a cell for '
        "its interval, p and verdict. Probe: the head learned from full features; own probe: from this "
        "condition’s own.</p>"
    )
    numbers = gr.HTML(elem_id="ablation-numbers")
    gr.HTML(explanations.why(explanations.HEATMAP))

    def draw(folder: Folder, how: str) -> Any:
        return charts.on_page(ablation_heatmap(folder.tables["results"], change=how == CHANGE))

    def looked(name: str, how: str) -> list[Any]:
        return guarded(lambda: [draw(results.ablation(name), how), ""], 2)

    view.input(looked, [names, view], [plot, said], **AT_ONCE)
    return Section(
        [view, plot, numbers],
        lambda folder: [RAW, draw(folder, RAW), tables.tasks(folder.tables["results"])],
    )


def _flows(results: Results, names: gr.Dropdown, said: gr.HTML) -> Section:
    heading("Where attention flows")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column() as body:
        with gr.Row():
            condition = gr.Dropdown(["full"], value="full", label="Condition", elem_id="flow-condition")
            block = gr.Slider(0, 11, 11, step=1, label="Block (layer)", elem_id="flow-block")
        flows = gr.Plot(show_label=False, elem_id="flows", elem_classes=["ttr-plot", "ttr-wide"])
        numbers = gr.HTML(elem_id="flow-numbers")
        gr.HTML(explanations.why(explanations.FLOWS))
        source = gr.Radio(list(SOURCES), value="CLS", label="By block, attention of", elem_id="flow-source")
        curves = gr.Plot(show_label=False, elem_id="flow-curves", elem_classes="ttr-plot")
        series = gr.HTML(elem_id="flow-series")
        gr.HTML(explanations.why(explanations.SOURCES))

    def slid(name: str, wanted: str, number: float) -> list[Any]:
        return guarded(lambda: [*_flows_at(results.ablation(name), wanted, number), ""], 3, message=2)

    def turned(name: str, wanted: str, number: float, of: str) -> list[Any]:
        return guarded(lambda: [*_flows_along(results.ablation(name), wanted, number, of), ""], 3, message=2)

    def replaced(name: str, wanted: str, number: float, of: str) -> list[Any]:
        def work() -> list[Any]:
            folder = results.ablation(name)
            return [*_flows_at(folder, wanted, number), *_flows_along(folder, wanted, number, of), ""]

        return guarded(work, 5, message=4)

    block.input(slid, [names, condition, block], [flows, numbers, said], **AT_ONCE)
    condition.input(
        replaced, [names, condition, block, source], [flows, numbers, curves, series, said], **AT_ONCE
    )
    source.input(turned, [names, condition, block, source], [curves, series, said], **AT_ONCE)
    # The line that marks the block follows once the slider rests: it is not worth a redraw on the way.
    block.release(turned, [names, condition, block, source], [curves, series, said], **AT_ONCE)

    def show(folder: Folder) -> list[Any]:
        table = folder.tables["attention"]
        conditions, last = values_of(table, "condition"), int(table["block"].max())
        of = [label for label, group in SOURCES.items() if group in set(table["source"])]
        return [
            gr.update(choices=conditions, value=conditions[0]),
            gr.update(maximum=last, value=last),
            gr.update(choices=of, value=of[0]),
            *_flows_at(folder, conditions[0], last),
            *_flows_along(folder, conditions[0], last, of[0]),
        ]

    outputs = [condition, block, source, flows, numbers, curves, series]
    return Section(outputs, show).where("attention", missing, body, explanations.ANALYSES)


def _flows_at(folder: Folder, wanted: str, number: float) -> list[Any]:
    """Return the flows of one block, as a figure and as a table."""
    table = folder.tables["attention"]
    drawn = attention_flows(table, wanted, int(number))
    return [charts.on_page(drawn), tables.flows(table, wanted, int(number))]


def _flows_along(folder: Folder, wanted: str, number: float, of: str) -> list[Any]:
    """Return one token's flows from block to block, the chosen block marked, and as a table."""
    table = folder.tables["attention"]
    drawn = attention_by_block(table, wanted, SOURCES[of])
    here = table[(table["condition"] == wanted) & (table["source"] == SOURCES[of])]
    caption = f"Attention of {of} under {wanted}, share with 95 % intervals."
    text = tables.by_block(here, "target", "share", "The numbers by block", caption, pattern="{:.3f}")
    return [charts.on_page(drawn, mark=int(number)), text]


def _divergence(results: Results, names: gr.Dropdown, said: gr.HTML) -> Section:
    heading("How far attention is from full")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column() as body:
        source = gr.Radio(list(SOURCES), value="CLS", label="Attention of", elem_id="divergence-source")
        plot = gr.Plot(show_label=False, elem_id="divergence", elem_classes=["ttr-plot", "ttr-wide"])
        numbers = gr.HTML()
        gr.HTML(explanations.why(explanations.DIVERGENCE))

    def draw(folder: Folder, of: str) -> list[Any]:
        table = folder.tables["divergence"]
        here = table[(table["source"] == SOURCES[of]) & (table["condition"] != "full")]
        caption = f"Jensen–Shannon divergence of the attention of {of} from full, nats, with 95 % intervals."
        text = tables.by_block(here, "condition", "js", "The numbers", caption, pattern="{:.3f}")
        return [charts.on_page(divergence_curves(table, SOURCES[of])), text]

    def looked(name: str, of: str) -> list[Any]:
        return guarded(lambda: [*draw(results.ablation(name), of), ""], 3, message=2)

    source.input(looked, [names, source], [plot, numbers, said], **AT_ONCE)

    def show(folder: Folder) -> list[Any]:
        there = set(folder.tables["divergence"]["source"])
        of = [label for label, group in SOURCES.items() if group in there]
        return [gr.update(choices=of, value=of[0]), *draw(folder, of[0])]

    return Section([source, plot, numbers], show).where("divergence", missing, body, explanations.ANALYSES)


def _additivity(results: Results, names: gr.Dropdown, said: gr.HTML) -> Section:
    heading("One register at a time, and all at once")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column() as body:
        place = gr.Dropdown([], label="Task", elem_id="additivity-task")
        plot = gr.Plot(show_label=False, elem_id="additivity", elem_classes="ttr-plot")
        numbers = gr.HTML()
        gr.HTML(explanations.why(explanations.ADDITIVITY))

    def places(folder: Folder) -> dict[str, tuple[str, str, str]]:
        columns = ["registers", "task", "metric"]
        found = folder.tables["additivity"][columns].drop_duplicates().itertuples(index=False, name=None)
        return {
            f"{metric_name(task, metric)}, {which}": (which, task, metric) for which, task, metric in found
        }

    def draw(folder: Folder, wanted: str) -> list[Any]:
        table, at = folder.tables["additivity"], places(folder)[wanted]
        return [charts.on_page(additivity_bars(table, *at)), tables.additivity(table, at)]

    def looked(name: str, wanted: str) -> list[Any]:
        return guarded(lambda: [*draw(results.ablation(name), wanted), ""], 3, message=2)

    place.input(looked, [names, place], [plot, numbers, said], **AT_ONCE)

    def show(folder: Folder) -> list[Any]:
        labels = list(places(folder))
        return [gr.update(choices=labels, value=labels[0]), *draw(folder, labels[0])]

    return Section([place, plot, numbers], show).where("additivity", missing, body, explanations.CONDITIONS)


def _geometry() -> Section:
    heading("What becomes of the patches")
    missing = gr.HTML(elem_classes="ttr-said")
    with gr.Column() as body:
        numbers = gr.HTML(elem_id="geometry")
        gr.HTML(explanations.why(explanations.GEOMETRY))
    return Section([numbers], lambda folder: [tables.geometry(folder.tables["geometry"])]).where(
        "geometry", missing, body, explanations.ANALYSES
    )
