"""The four tabs over a results folder."""

from __future__ import annotations

import gradio as gr

from ttr.apps.tabs.ablation import ablation_tab
from ttr.apps.tabs.benchmarks import benchmarks_tab
from ttr.apps.tabs.layers import layers_tab
from ttr.apps.tabs.registers import registers_tab
from ttr.studies.results import Results


def results_tabs(results: Results) -> None:
    """Lay out Ablation, Layers, Registers and Benchmarks; the first three share the ablation chosen."""
    with gr.Tab("Ablation") as tab:
        # Beside the tabs it would count as one, and the widget library would mix up their names.
        ablation = gr.State(None)
        ablation_tab(results, tab, ablation)
    with gr.Tab("Layers") as tab:
        layers_tab(results, tab, ablation)
    with gr.Tab("Registers") as tab:
        registers_tab(results, tab, ablation)
    with gr.Tab("Benchmarks") as tab:
        benchmarks_tab(results, tab)
