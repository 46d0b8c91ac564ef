"""The tab Prompt map: type words, and see where they fit before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ttr.apps.html import explanations
from ttr.apps.html import prompts as prompts_html
from ttr.apps.image.case import Case
from ttr.apps.image.memory import Kept, seen, value_of
from ttr.apps.image.prompt_map import AS_TYPED, PromptMaps, can_read, prompt_map, read_texts
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Chosen, Workbench
from ttr.apps.tabs.events import ALONE, AT_ONCE, IN_ORDER, Emptied, guarded, turned
from ttr.apps.tabs.look import CUT, look_controls

SIMILARITY, DIFFERENCE = "similarity", "difference to the others"
EXAMPLE = "metal implant, bone, soft tissue"
NOTHING = "Type what to look for: one text, or several to be told apart."
#: What is kept of what was asked: the image, and its maps.
Asked = Kept[tuple[Case, PromptMaps]]
COMMAND = "ttr app --backbone clip-vit-b-16 --pretrained"


@dataclass(frozen=True)
class Controls:
    """The widgets that decide what is asked, and how its map is looked at."""

    text: gr.Textbox
    template: gr.Textbox
    run: gr.Button
    which: gr.Radio
    kind: gr.Radio

    def looks(self) -> list[Any]:
        """Return those that decide how the map is looked at."""
        return [self.which, self.kind]


def prompts_tab(
    workbench: Workbench, case: gr.State, chosen: gr.State, turn: gr.State, tab: gr.Tab
) -> Emptied:
    """Lay out the tab; it asks about the image of ``case`` and the model of ``chosen``. Return it empty."""
    kept = gr.State(None, time_to_live=FORGOTTEN)
    with gr.Row(elem_classes="ttr-desk"):
        with gr.Column(elem_classes="ttr-controls", min_width=0):
            controls = _controls()
        with gr.Column(elem_classes="ttr-stage", min_width=0):
            status = gr.HTML(elem_id="prompt-status", elem_classes="ttr-status")
            gr.HTML(CUT)
            maps = gr.HTML(elem_id="prompt-maps")
            gr.HTML(explanations.why(explanations.PROMPTS))
        with gr.Column(elem_classes="ttr-below", min_width=0):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="prompt-numbers")
    shown = [kept, status, maps, numbers, controls.which]

    def asked(*values: Any) -> list[Any]:
        return _answered(workbench, *values)

    def looked(held: Asked | None, *choice: str) -> list[Any]:
        return guarded(lambda: ["", _map(*value_of(held), *choice)], 2, message=0)

    def entered(found: Kept[Case] | None, held: Asked | None) -> list[Any]:
        image, asked_of = seen(found), seen(held)
        if asked_of is not None and asked_of[0] is image:
            return [gr.skip() for _ in shown]
        return _unasked(workbench, image)

    inputs = [turn, case, chosen, controls.text, controls.template, controls.kind]
    for event in (controls.run.click, controls.text.submit, controls.template.submit):
        event(turned(asked, len(shown)), inputs, shown, **ALONE)
    for control in controls.looks():
        control.input(looked, [kept, *controls.looks()], [status, maps], **AT_ONCE)
    tab.select(entered, [case, kept], shown, **IN_ORDER)
    return Emptied(shown, [None, "", "", "", gr.update(visible=False)])


def _controls() -> Controls:
    text = gr.Textbox(
        EXAMPLE, label="Words, separated by commas or lines", lines=2, max_lines=6, elem_id="prompt-words"
    )
    template = gr.Textbox(
        AS_TYPED, label="Sentence around them, with {} for the words", elem_id="prompt-template"
    )
    run = gr.Button("Show where they fit", variant="primary", size="sm", elem_id="prompt-run")
    which = gr.Radio([], label="Map of", elem_id="prompt-which", visible=False)
    kind = gr.Radio([SIMILARITY, DIFFERENCE], value=SIMILARITY, label="Show", elem_id="prompt-kind")
    look_controls("prompt", own=False, log=False)
    return Controls(text, template, run, which, kind)


def _answered(
    workbench: Workbench,
    found: Kept[Case] | None,
    choice: Chosen | None,
    typed: str,
    around: str,
    kind: str,
) -> list[Any]:
    texts = read_texts(typed)
    image, model = workbench.asked(found, choice)
    backbone = workbench.backbone(model.model)
    if not can_read(backbone):
        return _unasked(workbench, image)
    with workbench.alone():
        result = prompt_map(
            backbone,
            model.neurons,
            image.picture.image,
            texts,
            template=around or AS_TYPED,
            num_registers=workbench.num_registers,
        )
    kind = kind if len(texts) > 1 else SIMILARITY
    return [
        workbench.memory.keep((image, result)),
        "",
        _map(image, result, texts[0], kind),
        prompts_html.numbers(image, result, model.caution),
        gr.update(choices=list(texts), value=texts[0], visible=True),
    ]


def _unasked(workbench: Workbench, found: Case | None) -> list[Any]:
    return [None, _state(workbench, found), "", "", gr.update(visible=False)]


def _state(workbench: Workbench, found: Case | None) -> str:
    """Return what must be said before anything was asked, as HTML."""
    if found is None:
        return explanations.empty(explanations.NO_IMAGE)
    if not can_read(workbench.backbone(found.model)):
        return explanations.empty(
            f"{found.model} reads images alone: it has no text tower. Choose phantom-clip under “Model and "
            "register neurons” in the tab Compare, or start the page with a CLIP model:",
            COMMAND,
        )
    return explanations.empty(NOTHING)


def _map(image: Case, result: PromptMaps, text: str, kind: str) -> str:
    return prompts_html.maps(image, result, result.texts.index(text), difference=kind == DIFFERENCE)
