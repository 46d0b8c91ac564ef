"""The tab Attribution: where an answer comes from, by a method of choice, and whether that is the finding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from ttr.apps.html import attribution as attribution_html
from ttr.apps.html import explanations
from ttr.apps.image.attribution import (
    HIGHEST,
    METHODS,
    TEXT,
    Answers,
    Attribution,
    answers_of,
    attributed,
)
from ttr.apps.image.case import Case
from ttr.apps.image.intake import Picture
from ttr.apps.image.memory import Kept, seen, value_of
from ttr.apps.image.outline import Localised, Outline, box_on, localised, mask_on, read_mask
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Chosen, Workbench
from ttr.apps.tabs.compare import MEAN, look
from ttr.apps.tabs.download import download
from ttr.apps.tabs.events import (
    ALONE,
    AS_SENT,
    AT_ONCE,
    IN_A_ROW,
    IN_ORDER,
    READING,
    Emptied,
    Turn,
    done,
    tried,
    turned,
)
from ttr.apps.tabs.look import CUT, LookControls, look_controls, looked_at
from ttr.apps.tabs.outline import DRAWN, OutlineBox, outline_box
from ttr.attribution.attribute import OF_A_BLOCK, WITHOUT_TARGET
from ttr.errors import TTRError

NOTHING = "Choose a method, and show where it looks. An outline of the finding adds the numbers."
#: What is kept of what was asked: the image, and its maps.
Asked = Kept[tuple[Case, Attribution]]
#: A mask that was read, and in which turn.
Read = tuple[int, Picture | TTRError]
#: How an outline is drawn: in the order of the passes, each of them.
OUTLINING = {**IN_ORDER, **IN_A_ROW, **AS_SENT}


@dataclass(frozen=True)
class Controls:
    """The widgets that decide what is asked, and how its map is looked at."""

    method: gr.Dropdown
    block: gr.Slider
    head: gr.Dropdown
    kind: gr.Dropdown
    name: gr.Dropdown
    words: gr.Textbox
    said: gr.HTML
    run: gr.Button
    look: LookControls

    def asked(self) -> list[Any]:
        """Return those whose values are :class:`Given`."""
        return [self.method, self.block, self.head, self.kind, self.name, self.words]

    def in_force(self) -> list[Any]:
        """Return what :func:`_in_force` has values for."""
        return [*self.asked(), self.said]


class Given(NamedTuple):
    """What is asked, as the widgets say it."""

    method: str
    block: float
    head: str
    kind: str | None
    name: str | None
    words: str


def attribution_tab(
    workbench: Workbench, case: gr.State, chosen: gr.State, turn: gr.State, tab: gr.Tab
) -> Emptied:
    """Lay out the tab; it asks about the image of ``case`` and the model of ``chosen``. Return it empty."""
    kept, marked, read = (gr.State(None, time_to_live=FORGOTTEN) for _ in range(3))
    with gr.Row(elem_classes="ttr-desk"):
        with gr.Column(elem_classes="ttr-controls", min_width=0):
            controls = _controls()
        with gr.Column(elem_classes="ttr-stage", min_width=0):
            status = gr.HTML(elem_id="attribution-status", elem_classes="ttr-status")
            gr.HTML(CUT)
            maps = gr.HTML(elem_id="attribution-maps")
            outline = outline_box()
            gr.HTML(explanations.why(explanations.ATTRIBUTION))
        with gr.Column(elem_classes="ttr-below", min_width=0):
            numbers = gr.HTML(elem_classes="ttr-numbers", elem_id="attribution-numbers")
            make = partial(_exported, workbench)
            asked = [kept, marked, *controls.look.all()]
            export = download("Export map and numbers", "ttr-attribution.zip", make, asked, status)
    shown = [kept, status, maps, numbers, export]
    outlined = [marked, status, outline.picture, *outline.corners, maps, numbers]
    here = [turn, case, kept, marked]
    given = [*controls.asked()]

    def own(work: Any, outputs: list[Any], message: int = 1) -> Any:
        return turned(partial(work, workbench), len(outputs), message)

    asked = [turn, case, chosen, marked, *given]
    for event in (controls.run.click, controls.words.submit):
        event(own(_answered, shown), asked, shown, **ALONE, **AS_SENT)
    in_force = controls.in_force()
    for control in (controls.method, controls.kind):
        control.input(
            own(_in_force, in_force, message=6), [turn, case, *given], in_force, **AT_ONCE, **AS_SENT
        )
    entering = [*shown, *in_force, outline.picture]
    tab.select(own(_entered, entering), [turn, case, kept, marked, *given], entering, **IN_ORDER, **AS_SENT)
    _connect_outline(workbench, outline, here, outlined, read, own)
    empty = [None, "", "", "", gr.update(interactive=False), None, "", *[None] * 4, None, None]
    every = [*shown, marked, outline.picture, *outline.corners, outline.mask, read]
    return Emptied(every, empty)


def _connect_outline(
    workbench: Workbench,
    outline: OutlineBox,
    here: list[Any],
    outlined: list[Any],
    read: gr.State,
    own: Any,
) -> None:
    boxed, asked = own(_boxed, outlined), [*here, *outline.corners]
    outline.drawn.select(boxed, asked, outlined, js=DRAWN, **OUTLINING)
    outline.take.click(boxed, asked, outlined, **OUTLINING)
    outline.away.click(own(_unmarked, outlined), here, outlined, **OUTLINING)

    def reading(turn: Turn, path: str | None) -> Read | None:
        mine = turn.last
        return None if path is None else (mine, tried(lambda: read_mask(path)))

    def masked(turn: Turn, *values: Any) -> list[Any]:
        *others, found = values
        if found is None or found[0] != turn.last:
            return [*[gr.skip() for _ in outlined], None]
        return [*own(_masked, outlined)(turn, *others, found[1]), None]

    mask = outline.mask
    arrived = mask.upload(reading, [here[0], mask], read, **READING, **IN_A_ROW)
    arrived.success(masked, [*here, read], [*outlined, read], **OUTLINING)
    gr.on([mask.clear, mask.delete], own(_unmarked, outlined), here, outlined, **OUTLINING)


def _controls() -> Controls:
    method = gr.Dropdown(list(METHODS), value=METHODS[0], label="Method", elem_id="attribution-method")
    block = gr.Slider(
        0, 11, 11, step=1, label="Block (layer)", elem_id="attribution-block", elem_classes="ttr-block"
    )
    head = gr.Dropdown([MEAN], value=MEAN, label="Attention head", elem_id="attribution-head")
    kind = gr.Dropdown([], label="Answer of", interactive=False, elem_id="attribution-answer")
    name = gr.Dropdown(
        [HIGHEST], value=HIGHEST, label="Class", interactive=False, elem_id="attribution-class"
    )
    words = gr.Textbox(label="Words", interactive=False, elem_id="attribution-words")
    said = gr.HTML(elem_id="attribution-said")
    run = gr.Button("Show where it looks", variant="primary", size="sm", elem_id="attribution-run")
    return Controls(method, block, head, kind, name, words, said, run, look_controls("attribution"))


def _answers(workbench: Workbench, image: Case) -> Answers:
    return answers_of(workbench.backbone(image.model), image, workbench.head_for(image))


def _answered(
    workbench: Workbench,
    found: Kept[Case] | None,
    choice: Chosen | None,
    marked: Kept[Outline] | None,
    *given: Any,
) -> list[Any]:
    image, model = workbench.asked(found, choice)
    asked = Given(*given)
    at = look(min(asked.block, image.inspection.layers - 1), asked.head, "CLS")
    answer = None
    if asked.method not in WITHOUT_TARGET:
        answer = _answers(workbench, image).target(asked.kind or "", asked.name or HIGHEST, asked.words)
    with workbench.alone():
        result = attributed(
            workbench.backbone(model.model),
            model.neurons,
            image,
            asked.method,
            answer,
            block=at.layer,
            attention_head=at.head,
            num_registers=workbench.num_registers,
            original=workbench.original(model.model),
        )
    outline = _on(marked, image)
    drawn = attribution_html.maps(image, result, outline)
    told = _numbers(workbench, image, result, outline)
    return [workbench.memory.keep((image, result)), "", drawn, told, gr.update(interactive=True)]


def _entered(
    workbench: Workbench,
    found: Kept[Case] | None,
    held: Asked | None,
    marked: Kept[Outline] | None,
    *given: Any,
) -> list[Any]:
    image, asked_of = seen(found), seen(held)
    if image is None:
        said = explanations.empty(explanations.NO_IMAGE)
        return [None, said, "", "", gr.update(interactive=False), *[gr.skip()] * 7, ""]
    picture = attribution_html.drawing(image, _on(marked, image))
    if asked_of is not None and asked_of[0] is image:
        return [*[gr.skip()] * 12, picture]
    empty = [None, explanations.empty(NOTHING), "", "", gr.update(interactive=False)]
    return [*empty, *_in_force(workbench, found, *given), picture]


def _in_force(workbench: Workbench, found: Kept[Case] | None, *given: Any) -> list[Any]:
    """Return the controls as they are in force for an image's model, and a sentence on those that are not."""
    image, asked = value_of(found), Given(*given)
    answers, inspection = _answers(workbench, image), image.inspection
    methods, kinds = answers.methods, answers.kinds
    method = asked.method if asked.method in methods else methods[0]
    kind = asked.kind if asked.kind in kinds else next(iter(kinds), None)
    heads = [MEAN, *(f"head {index}" for index in range(inspection.heads))]
    names = [HIGHEST, *answers.classes.get(kind or "", ())]
    of_block, of_answer = method in OF_A_BLOCK, method not in WITHOUT_TARGET
    last = inspection.layers - 1
    return [
        gr.update(choices=methods, value=method),
        gr.update(maximum=last, value=min(asked.block, last), interactive=of_block),
        gr.update(choices=heads, value=asked.head if asked.head in heads else MEAN, interactive=of_block),
        gr.update(choices=kinds, value=kind, interactive=of_answer),
        gr.update(
            choices=names,
            value=asked.name if asked.name in names else HIGHEST,
            interactive=of_answer and kind != TEXT,
        ),
        gr.update(interactive=of_answer and kind == TEXT),
        attribution_html.in_force(method, kind, kinds),
    ]


def _boxed(workbench: Workbench, *values: Any) -> list[Any]:
    found, held, _, *corners = values
    return _outlined(workbench, found, held, lambda picture: box_on(picture, corners))


def _masked(workbench: Workbench, *values: Any) -> list[Any]:
    found, held, _, read = values
    mask = done(read)
    return _outlined(workbench, found, held, lambda picture: mask_on(picture, mask))


def _unmarked(workbench: Workbench, *values: Any) -> list[Any]:
    found, held, _ = values
    return _outlined(workbench, found, held, lambda picture: None)


def _outlined(workbench: Workbench, found: Kept[Case] | None, held: Asked | None, made: Any) -> list[Any]:
    """Return the image with what is outlined on it, and the numbers of its map, if it has one."""
    image = value_of(found)
    outline = made(image.picture)
    kept = None if outline is None else workbench.memory.keep(outline)
    corners = [None] * 4 if outline is None else list(outline.corners)
    drawn = attribution_html.drawing(image, outline)
    asked_of = seen(held)
    if asked_of is None or asked_of[0] is not image:
        return [kept, explanations.empty(NOTHING), drawn, *corners, gr.skip(), gr.skip()]
    result = asked_of[1]
    shown = attribution_html.maps(image, result, outline)
    return [kept, "", drawn, *corners, shown, _numbers(workbench, image, result, outline)]


def _on(marked: Kept[Outline] | None, image: Case) -> Outline | None:
    """Return what is outlined on an image; None where nothing is."""
    outline = seen(marked)
    return outline if outline is not None and outline.of(image.picture) else None


def _scored(
    workbench: Workbench, image: Case, result: Attribution, outline: Outline | None
) -> Localised | TTRError | None:
    if outline is None:
        return None
    return tried(lambda: localised(workbench.backbone(image.model), outline, result.maps))


def _numbers(workbench: Workbench, image: Case, result: Attribution, outline: Outline | None) -> str:
    scored = _scored(workbench, image, result, outline)
    warning = workbench.backbone(image.model).warning
    return attribution_html.numbers(image, result, outline, scored, warning)


def _exported(workbench: Workbench, held: Asked | None, marked: Kept[Outline] | None, *seen_as: Any) -> bytes:
    image, result = value_of(held)
    outline = _on(marked, image)
    scored = _scored(workbench, image, result, outline)
    found = scored if isinstance(scored, Localised) else None
    return attribution_html.zip_of(image, result, outline, found, looked_at(0, None, "CLS", *seen_as))
