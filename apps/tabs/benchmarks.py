"""The tab Benchmarks: each metric before and after with its interval, and what every difference comes to."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ttr.apps.html import benchmark as benchmark_html
from ttr.apps.html import charts, explanations
from ttr.apps.html.benchmark import METRICS, View
from ttr.apps.tabs.chooser import Contents, over_results
from ttr.apps.tabs.events import AT_ONCE, guarded
from ttr.apps.tabs.parts import heading, values_of
from ttr.studies.bench.charts import differences
from ttr.studies.results import Benchmarked, Results
from ttr.studies.schemas import BENCHMARK


def benchmarks_tab(results: Results, tab: gr.Tab) -> None:
    """Lay out the tab."""

    def lay_out(names: gr.Dropdown, said: gr.HTML) -> Contents:
        about = gr.HTML(elem_id="bench-about")
        heading("Before and after")
        controls = _controls()
        pair = gr.HTML(elem_id="bench-pair")
        gr.HTML(explanations.why(explanations.BENCHMARK))
        heading("Every difference")
        metric = gr.Dropdown([], label="Metric", elem_id="bench-metric")
        with gr.Column() as compared:
            forest = gr.Plot(
                show_label=False, elem_id="bench-forest", elem_classes=["ttr-plot", "ttr-middle"]
            )
            gr.HTML(
                '<p class="ttr-soft">Filled: higher or lower after Holm’s correction. '
                "Hollow: equivalent, or not distinguishable.</p>"
            )
        tests, arms = gr.HTML(elem_id="bench-tests"), gr.HTML(elem_id="bench-arms")

        def looked(name: str, *choice: Any) -> list[Any]:
            def work() -> list[Any]:
                return [benchmark_html.before_after(results.benchmark(name), _view(*choice)), ""]

            return guarded(work, 2)

        def turned(name: str, wanted: str) -> list[Any]:
            return guarded(lambda: [*_of_metric(results.benchmark(name), wanted), ""], 5, message=4)

        for control in controls:
            control.input(looked, [names, *controls], [pair, said], **AT_ONCE)
        metric.input(turned, [names, metric], [compared, forest, tests, arms, said], **AT_ONCE)

        def show(name: str) -> list[Any]:
            return _shown(results.benchmark(name))

        return [about, *controls, pair, metric, compared, forest, tests, arms], show

    over_results(results, BENCHMARK, tab, gr.State(None), explanations.MAKE_BENCHMARK, lay_out)


def _controls() -> list[Any]:
    """Return the widgets in the order of :class:`ttr.apps.html.benchmark.View`."""
    with gr.Row():
        before = gr.Dropdown([], label="Before", min_width=140, elem_id="bench-before")
        after = gr.Dropdown([], label="After", min_width=140, elem_id="bench-after")
        head = gr.Dropdown([], label="Head", min_width=140, elem_id="bench-head")
        feature = gr.Dropdown([], label="Classify from", min_width=140, elem_id="bench-feature")
        seed = gr.Dropdown([], label="Seed", min_width=90, elem_id="bench-seed")
    return [before, after, head, feature, seed]


def _shown(found: Benchmarked) -> list[Any]:
    """Return the values of the whole tab for a result that was just chosen."""
    table = found.results
    before, after = benchmark_html.first_pair(found)
    lists = [list(benchmark_html.treatments(found))] * 2
    lists += [values_of(table, column) for column in ("head", "feature")]
    lists.append([str(int(seed)) for seed in values_of(table, "seed")])
    chosen = [before, after, *(each[0] for each in lists[2:])]
    metrics = [(METRICS.get(each, each), each) for each in values_of(table, "metric")]
    return [
        benchmark_html.about(found),
        *(gr.update(choices=choices, value=value) for choices, value in zip(lists, chosen, strict=True)),
        benchmark_html.before_after(found, _view(*chosen)),
        gr.update(choices=metrics, value=metrics[0][1]),
        *_of_metric(found, metrics[0][1]),
    ]


def _view(before: str, after: str, head: str, feature: str, seed: str) -> View:
    return View(before, after, head, feature, int(seed))


def _of_metric(found: Benchmarked, metric: str) -> list[Any]:
    """Return whether arms were compared by a metric, the figure, its numbers, and every arm's."""
    pairs = found.comparisons
    here = None if pairs is None else pairs[pairs["metric"] == metric]
    arms = benchmark_html.every_arm(found, metric)
    if here is None or here.empty:
        untested = '<p class="ttr-missing">Arms were not compared by this metric; its numbers are below.</p>'
        return [gr.update(visible=False), gr.skip(), untested, arms]
    drawn = charts.on_page(differences(here))
    return [gr.update(visible=True), drawn, benchmark_html.every_difference(found, metric), arms]
