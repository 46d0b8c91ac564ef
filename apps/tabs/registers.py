"""The tab Registers: norms, colours and attention maps under every condition, and what registers resemble."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ttr.apps.html import explanations
from ttr.apps.html import pictures as pictures_html
from ttr.apps.html.pictures import ALL, FULL, At
from ttr.apps.tabs.chooser import Contents, over_results
from ttr.apps.tabs.events import AT_ONCE, guarded
from ttr.apps.tabs.look import opacity_slider
from ttr.studies.ablate.folder import Shown
from ttr.studies.results import Results
from ttr.studies.schemas import ABLATION

KINDS = {
    "Norms": ("norms", explanations.NORM_MAPS),
    "Colours": ("colours", explanations.COLOUR_MAPS),
    "Attention": ("attention", explanations.OVERLAYS),
}


def registers_tab(results: Results, tab: gr.Tab, chosen: gr.State) -> None:
    """Lay out the tab; ``chosen`` is the name of the ablation that the tabs share."""

    def lay_out(names: gr.Dropdown, said: gr.HTML) -> Contents:
        missing = gr.HTML(elem_classes="ttr-said")
        with gr.Column() as body:
            with gr.Row():
                image = gr.Dropdown([], label="Image", min_width=220, elem_id="picture-image")
                condition = gr.Dropdown([], label="Condition", min_width=160, elem_id="picture-condition")
                scale = gr.Radio(
                    [ALL, FULL], value=FULL, label="Colour scale up to the largest", elem_id="picture-scale"
                )
            maps = []
            with gr.Tabs():
                for label, (kind, why) in KINDS.items():
                    with gr.Tab(label):
                        if kind == "attention":
                            query = _whose()
                        maps.append(gr.HTML(elem_id=f"pictures-{kind}"))
                        gr.HTML(explanations.why(why))
                with gr.Tab("Nearest patches"):
                    gallery = gr.HTML(elem_id="gallery")
                    gr.HTML(explanations.why(explanations.GALLERY))

        controls: list[Any] = [image, condition, query, scale]

        def looked(name: str, *choice: str) -> list[Any]:
            def work() -> list[Any]:
                shown = results.ablation(name).pictures
                return [gr.skip()] * 4 if shown is None else [*_drawn(shown, *choice), ""]

            return guarded(work, 4, message=3)

        for control in controls:
            control.input(looked, [names, *controls], [*maps, said], **AT_ONCE)

        def show(name: str) -> list[Any]:
            shown = results.ablation(name).pictures
            if shown is None:
                text = explanations.missing("pictures.safetensors", explanations.ANALYSES)
                return [text, gr.update(visible=False), *(gr.skip() for _ in (*controls, *maps, gallery))]
            return ["", gr.update(visible=True), *_first(shown)]

        return [missing, body, *controls, *maps, gallery], show

    over_results(results, ABLATION, tab, chosen, explanations.MAKE_ABLATION, lay_out)


def _drawn(shown: Shown, *choice: str) -> list[str]:
    return [pictures_html.pictures(shown, kind, At(*choice)) for kind, _ in KINDS.values()]


def _first(shown: Shown) -> list[Any]:
    """Return the values of controls, maps and gallery before anything is chosen."""
    tokens = pictures_html.queries(shown)
    second = shown.conditions[min(1, len(shown.conditions) - 1)]
    lists = ((shown.images, shown.images[0]), (shown.conditions, second), (tokens, tokens[0]))
    return [
        *(gr.update(choices=choices, value=value) for choices, value in lists),
        FULL,
        *_drawn(shown, shown.images[0], second, tokens[0], FULL),
        pictures_html.gallery(shown),
    ]


def _whose() -> gr.Dropdown:
    """Lay out what concerns attention alone; return the widget whose value is the token that looks."""
    with gr.Row():
        query = gr.Dropdown([], label="Attention of", min_width=160, elem_id="picture-query")
        opacity_slider("picture-opacity", 65)
    return query
