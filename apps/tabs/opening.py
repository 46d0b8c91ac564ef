"""What opens an image. All of the former one goes first, on every tab at once; then the new one is shown.

So whatever happens between the two (a refusal, a full queue, a model that takes its time), no map, number or
export of one patient stands beside the file of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ttr.apps.html import explanations
from ttr.apps.image.case import Case
from ttr.apps.image.intake import Picture, sample, take_in
from ttr.apps.image.memory import Kept, value_of
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import compare
from ttr.apps.tabs import window as window_controls
from ttr.apps.tabs.compare import Widgets
from ttr.apps.tabs.events import ALONE, AS_SENT, AT_ONCE, Emptied, guarded
from ttr.datasets.dicom import Window

#: A block number typed beyond the last block is the last block.
WITHIN = (
    "(shown, layer, ...rest) => { const range = document.querySelector('#layer input[type=range]'); "
    "return [shown, Math.min(Math.max(layer, +range.min), +range.max), ...rest]; }"
)


@dataclass(frozen=True)
class Listed:
    """A list elsewhere whose images open here.

    Attributes:
        event: of the list.
        path: from the values of ``asked`` to the path of an image, or None.
        asked: inputs.
    """

    event: Any
    path: Callable[..., str | None]
    asked: list[Any]


class Opening:
    """The events that show an image in the tab Compare, or take it away.

    Args:
        workbench: the models.
        widgets: of the tab.
        case: the state of the image that is open, a kept Case.
        chosen: the state of the model, a Chosen.
        others: what other tabs show of the image.
    """

    def __init__(
        self,
        workbench: Workbench,
        widgets: Widgets,
        case: gr.State,
        chosen: gr.State,
        others: Sequence[Emptied],
    ) -> None:
        self.workbench = workbench
        self.widgets = widgets
        self.case = case
        self.shown = widgets.outputs(case)
        self.all = [*self.shown, *(widget for each in others for widget in each.outputs)]
        self.elsewhere = [value for each in others for value in each.values]
        self.inputs = [chosen, *widgets.controls.all()]

    def connect(self, blocks: gr.Blocks) -> None:
        """Let the tab's own widgets open an image, and show it another way."""
        widgets, again = self.widgets, [self.case, *self.inputs]
        upload = widgets.upload
        emptied = gr.on(
            [upload.upload, upload.clear, upload.delete], self._emptied, None, self.all, **AT_ONCE
        )
        emptied.then(self._uploaded, [upload, *self.inputs], self.all, **ALONE, **AS_SENT)
        for name, button in widgets.samples.items():
            emptied = button.click(lambda: [None, *self._emptied()], None, [upload, *self.all], **AT_ONCE)
            emptied.then(partial(self._sample, name), self.inputs, self.all, **ALONE, **AS_SENT)
        blocks.load(partial(self._sample, "chest"), self.inputs, self.all, **ALONE, **AS_SENT)
        for event in widgets.changed:
            event.then(self._again, again, self.shown, **ALONE, **AS_SENT)
        window = widgets.window
        # A dropdown of the library says input twice, and the second answer would undo what was typed since.
        window.preset.select(self._preset, [window.preset, *again], self.shown, **ALONE, **AS_SENT)
        typed = [window.center, window.width, *again]
        window.apply.click(self._typed, typed, self.shown, **ALONE, **AS_SENT)
        controls = widgets.controls.all()
        for control in controls:
            outputs = [*widgets.maps, widgets.status]
            control.input(self._looked, [self.case, *controls], outputs, js=WITHIN, **AT_ONCE, **AS_SENT)

    def connect_list(self, listed: Listed, tabs: gr.Tabs) -> None:
        """Let a list open an image, and turn to the tab Compare."""
        path, upload = gr.State(None), self.widgets.upload
        found = listed.event(listed.path, listed.asked, path, **AT_ONCE)
        found = found.success(self._emptied_for, path, [upload, *self.all], **AT_ONCE)
        found = found.success(self._listed, [path, *self.inputs], self.all, **ALONE, **AS_SENT)
        found.success(lambda: gr.update(selected=compare.NAME), None, tabs, **AT_ONCE)

    def _emptied(self, said: str = "") -> list[Any]:
        return [*compare.empty(said), *self.elsewhere]

    def _emptied_for(self, path: str | None) -> list[Any]:
        return [gr.skip()] * (1 + len(self.all)) if path is None else [None, *self._emptied()]

    def _opened(self, read: Callable[[], Picture], choice: Any, *seen: Any) -> list[Any]:
        """Show an image, or why it is refused; of the former one nothing stays either way."""
        found = guarded(lambda: self._analysed(read(), choice, *seen), len(self.shown))
        return [*found, *self.elsewhere] if found[0] != gr.skip() else self._emptied(found[1])

    def _uploaded(self, file: dict[str, Any] | None, *given: Any) -> list[Any]:
        if file is None:
            return self._emptied(explanations.empty(explanations.CHOOSE))
        return self._opened(lambda: take_in(file["path"]), *given)

    def _listed(self, path: str | None, *given: Any) -> list[Any]:
        return [gr.skip()] * len(self.all) if path is None else self._opened(lambda: take_in(path), *given)

    def _sample(self, name: str, *given: Any) -> list[Any]:
        return self._opened(lambda: sample(name), *given)

    def _again(self, kept: Kept[Case] | None, *given: Any) -> list[Any]:
        return guarded(lambda: self._analysed(value_of(kept).picture, *given), len(self.shown))

    def _preset(self, name: str, kept: Kept[Case] | None, *given: Any) -> list[Any]:
        return self._windowed(kept, lambda picture: window_controls.named(picture, name), *given)

    def _typed(self, center: float, width: float, kept: Kept[Case] | None, *given: Any) -> list[Any]:
        return self._windowed(kept, lambda _: window_controls.typed(center, width), *given)

    def _windowed(
        self, kept: Kept[Case] | None, wanted: Callable[[Picture], Window | None], *given: Any
    ) -> list[Any]:
        def work() -> list[Any]:
            picture = value_of(kept).picture
            return self._analysed(picture.in_window(wanted(picture)), *given)

        return guarded(work, len(self.shown))

    def _looked(self, kept: Kept[Case] | None, *seen: Any) -> list[Any]:
        return guarded(lambda: [*compare.maps(value_of(kept), compare.look(*seen)), ""], 4, message=3)

    def _analysed(self, picture: Picture, choice: Any, *seen: Any) -> list[Any]:
        choice = choice or self.workbench.choose(self.workbench.names[0])
        return compare.shown(self.workbench.memory.keep(self.workbench.case(picture, choice)), seen)
