"""What opens an image. All of the former one goes first, on every tab at once; then the new one is shown.

So whatever happens between the two (a refusal, a full queue, a model that takes its time), no map, number or
export of one patient stands beside the file of another. The file is read in an event of its own, which holds
up no pass of another visitor; of what a visitor gives in a row the last is shown. Emptying and reading are
asked in the same moment: one that waited for the other could be overtaken by what was given next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from ttr.apps.html import explanations
from ttr.apps.html import stack as stack_html
from ttr.apps.image import series
from ttr.apps.image.case import Case
from ttr.apps.image.intake import Picture, sample, take_in
from ttr.apps.image.memory import Kept, value_of
from ttr.apps.image.series import Given, Series
from ttr.apps.image.stack import OpenStack, Stack, read_stack
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import compare
from ttr.apps.tabs import series as series_tab
from ttr.apps.tabs import window as window_controls
from ttr.apps.tabs.compare import Widgets
from ttr.apps.tabs.events import (
    ALONE,
    AS_SENT,
    AT_ONCE,
    IN_A_ROW,
    READING,
    Emptied,
    Turn,
    done,
    guarded,
    in_this_turn,
)
from ttr.apps.tabs.series import ASKED

#: A block number typed beyond the last block is the last block.
WITHIN = (
    "(turn, shown, layer, ...rest) => { const range = document.querySelector('#layer input[type=range]'); "
    "return [turn, shown, Math.min(Math.max(layer, +range.min), +range.max), ...rest]; }"
)


@dataclass(frozen=True)
class Taken:
    """What was read of what a visitor gave.

    Attributes:
        found: a picture or a stack, later as the session keeps it.
        given: all that was given at once, or None.
        series: which of its series this is.
    """

    found: Any
    given: Given | None = None
    series: Series | None = None


#: What shows the image.
SHOWING = {**ALONE, **AS_SENT, **IN_A_ROW}
#: What shows another slice: the last that was asked for counts, and the page says what is not there yet.
SLICING = {**ALONE, **AS_SENT, "trigger_mode": "always_last", "show_progress": "hidden"}
#: When something was given: its emptying notes it, and its reading, which the library may send later, says
#: the same. What is asked at once is not always done in the order in which it was asked.
NOTED = "(...inputs) => [...inputs.slice(0, -1), (window.ttrGiven ??= {{}})['{by}'] = performance.now()]"
SAID = "(...inputs) => [...inputs.slice(0, -1), window.ttrGiven?.['{by}'] ?? performance.now()]"


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
        turn: the state of whose turn it is, a Turn.
        others: what other tabs show of the image.
    """

    def __init__(
        self,
        workbench: Workbench,
        widgets: Widgets,
        case: gr.State,
        chosen: gr.State,
        turn: gr.State,
        others: Sequence[Emptied],
    ) -> None:
        self.workbench = workbench
        self.widgets = widgets
        self.case = case
        self.shown = [*widgets.outputs(case), *widgets.series.outputs()]
        self.all = [*self.shown, *(widget for each in others for widget in each.outputs)]
        self.elsewhere = [value for each in others for value in each.values]
        self.inputs = [chosen, *widgets.controls.which()]
        self.turn = turn
        self.given, self.place = gr.Number(0, visible=False), gr.Number(0, visible=False)

    def connect(self, blocks: gr.Blocks) -> None:
        """Let the tab's own widgets open an image, and show it another way."""
        widgets, again = self.widgets, [self.turn, self.case, *self.inputs]
        upload, coming = widgets.upload, explanations.empty(explanations.COMING)
        asked = [self.turn, self.given]
        widgets.given(partial(self._taken_away, said=coming), asked, self.all, **_emptying("choosing"))
        uploads = partial(gr.on, [upload.upload, upload.clear, upload.delete])
        uploads(self._taken_away, asked, self.all, **_emptying("file"))
        self._reading(uploads, _uploaded, [upload], "file")
        series = widgets.series
        series.choice.input(self._series_taken_away, asked, self.all, **_emptying("series"))
        self._reading(series.choice.input, _of_series, [series.given, series.choice], "series")
        series.stayed.select(self._sliced, [*again, self.place], self.all, js=ASKED, **SLICING)
        for name, button in widgets.samples.items():
            by = f"sample-{name}"
            button.click(self._taken_away_with_file, asked, [upload, *self.all], **_emptying(by))
            self._reading(button.click, partial(sample, name), [], by)
        self._reading(blocks.load, partial(sample, "chest"), [], "opening")
        for event in widgets.changed:
            event.then(self._again, again, self.shown, **SHOWING)
        window = widgets.window
        # A dropdown of the library says input twice, and the second answer would undo what was typed since.
        window.preset.select(self._preset, [window.preset, *again], self.shown, **SHOWING)
        typed = [window.center, window.width, *again]
        window.apply.click(self._typed, typed, self.shown, **SHOWING)
        controls = widgets.controls.which()
        for control in controls:
            outputs = [*widgets.maps, widgets.status]
            asked = [self.turn, self.case, *controls]
            draw = compare.at_block if control is widgets.controls.layer else compare.looked
            control.input(partial(self._looked, draw), asked, outputs, js=WITHIN, **AT_ONCE, **AS_SENT)

    def connect_list(self, listed: Listed, tabs: gr.Tabs) -> None:
        """Let a list open an image, and turn to the tab Compare."""
        path, upload = gr.State(None), self.widgets.upload
        found = listed.event(listed.path, listed.asked, path, **AT_ONCE)
        asked, outputs = [self.turn, path, self.given], [upload, *self.all]
        by = f"list-{path._id}"
        found.success(self._emptied_for, asked, outputs, **_emptying(by))
        shown = self._reading(found.success, take_in, [path], by, there=lambda path: path is not None)
        shown.success(_turned_to, path, tabs, **AT_ONCE)

    def _emptied(self, said: str = "") -> list[Any]:
        return [*compare.empty(said), *series_tab.empty(), *self.elsewhere]

    def _taken_away(self, turn: Turn, at: float, said: str = "") -> list[Any]:
        """Empty all that shows an image, unless another was given since; what is begun of it is dropped."""
        return self._emptied(said) if turn.empties(at) else [gr.skip() for _ in self.all]

    def _series_taken_away(self, turn: Turn, at: float) -> list[Any]:
        """Empty all but the choice among the series that were given."""
        found, before = self._taken_away(turn, at), len(self.shown) - len(series_tab.kept(""))
        return [*found[:before], *series_tab.kept(found[len(self.shown) - 1]), *found[len(self.shown) :]]

    def _taken_away_with_file(self, turn: Turn, at: float) -> list[Any]:
        """Empty the place for files, too: what is shown next is none of the visitor's."""
        found = self._taken_away(turn, at)
        return [gr.skip() if found[0] == gr.skip() else None, *found]

    def _emptied_for(self, turn: Turn, path: str | None, at: float) -> list[Any]:
        return [gr.skip()] * (1 + len(self.all)) if path is None else self._taken_away_with_file(turn, at)

    def _reading(
        self,
        event: Callable[..., Any],
        read: Callable[..., Picture | Taken | None],
        asked: list[Any],
        by: str,
        there: Callable[..., bool] = lambda *values: True,
    ) -> Any:
        """At an event, read an image from the values of ``asked``, then show it; return the last event.

        ``by`` names what gives it, as in its emptying. Where the values name none that is ``there``, what is
        shown stays.
        """

        def work(request: gr.Request, turn: Turn, *values: Any) -> None:
            *given, at = values
            if there(*given):
                turn.reads(lambda: self._kept(read(*given), request), at)

        reading = event(
            work,
            [self.turn, *asked, self.given],
            None,
            js=SAID.format(by=by),
            **READING,
            **AS_SENT,
            **IN_A_ROW,
        )
        return reading.success(self._opened, [self.turn, *self.inputs], self.all, **SHOWING)

    def _kept(self, read: Picture | Taken | None, request: gr.Request) -> Kept[Picture] | Taken | None:
        if isinstance(read, Picture):
            return self.workbench.memory.keep(read)
        if read is not None and isinstance(read.found, Stack):
            stack = OpenStack(self.workbench.memory, read.found, request.state.visitor.name)
            return replace(read, found=stack)
        return None if read is None else replace(read, found=self.workbench.memory.keep(read.found))

    def _opened(self, turn: Turn, *given: Any) -> list[Any]:
        """Show what was read in this turn, or why it is refused; nothing of a former one stays either way."""
        read = turn.takes()
        if read is None:
            return [gr.skip() for _ in self.all]
        return in_this_turn(lambda: self._with_all(turn, read.found, *given), turn, len(self.all))

    def _with_all(self, turn: Turn, read: Any, *given: Any) -> list[Any]:
        if read is None:
            return self._emptied(explanations.empty(explanations.CHOOSE))
        found = guarded(lambda: self._first_of(turn, done(read), *given), len(self.shown))
        return [*found, *self.elsewhere] if found[0] != gr.skip() else self._emptied(found[1])

    def _first_of(self, turn: Turn, read: Kept[Picture] | Taken, *given: Any) -> list[Any]:
        """Return what shows what was read: a picture, or the slice of a stack that is shown first."""
        taken = read if isinstance(read, Taken) else Taken(read)
        if isinstance(taken.found, OpenStack):
            turn.stack = taken.found
            picture = taken.found.stack.picture(taken.found.stack.first)
        else:
            picture = value_of(taken.found)
        shown = self._analysed(turn, picture, *given)
        box = series_tab.values(taken.given, taken.series, shown[-1] if turn.stack is not None else "")
        return [*shown[: -len(box)], *box]

    def _again(self, turn: Turn, kept: Kept[Case] | None, *given: Any) -> list[Any]:
        return self._shown_anew(turn, kept, lambda picture: picture, *given)

    def _preset(self, name: str, turn: Turn, kept: Kept[Case] | None, *given: Any) -> list[Any]:
        def windowed(picture: Picture) -> Picture:
            return picture.in_window(window_controls.named(picture, name))

        return self._shown_anew(turn, kept, windowed, *given)

    def _typed(
        self, center: float, width: float, turn: Turn, kept: Kept[Case] | None, *given: Any
    ) -> list[Any]:
        def windowed(picture: Picture) -> Picture:
            return picture.in_window(window_controls.typed(center, width))

        return self._shown_anew(turn, kept, windowed, *given)

    def _shown_anew(
        self, turn: Turn, kept: Kept[Case] | None, changed: Callable[[Picture], Picture], *given: Any
    ) -> list[Any]:
        """Show the open image another way, unless it was taken away meanwhile."""

        def work() -> list[Any]:
            return self._analysed(turn, changed(value_of(kept).picture), *given)

        outputs = len(self.shown)
        return in_this_turn(lambda: guarded(work, outputs), turn, outputs)

    def _sliced(self, turn: Turn, kept: Kept[Case] | None, *values: Any) -> list[Any]:
        """Show the slice of the open stack that stays, in the window in force; other tabs are emptied."""
        *given, place = values
        opened, outputs = turn.stack, len(self.all)
        if opened is None:  # taken away meanwhile
            return [gr.skip() for _ in self.all]

        def work() -> list[Any]:
            window, stack = value_of(kept).picture.window, opened.stack
            index = min(max(int(place or 0), 0), len(stack.slices) - 1)
            return [*self._analysed(turn, stack.picture(index, window), *given), *self.elsewhere]

        return in_this_turn(lambda: guarded(work, outputs), turn, outputs)

    def _looked(
        self, draw: Callable[..., list[Any]], turn: Turn, kept: Kept[Case] | None, *seen: Any
    ) -> list[Any]:
        def work() -> list[Any]:
            return [*draw(value_of(kept), compare.look(*seen)), ""]

        outputs = len(self.widgets.maps) + 1
        return in_this_turn(lambda: guarded(work, outputs, message=outputs - 1), turn, outputs)

    def _analysed(self, turn: Turn, picture: Picture, choice: Any, *seen: Any) -> list[Any]:
        choice, stack = choice or self.workbench.choose(self.workbench.names[0]), turn.stack

        def made() -> Case:
            return self.workbench.case(picture, choice)

        if stack is None or picture.slice is None:
            return [*compare.shown(self.workbench.memory.keep(made()), seen), *series_tab.kept(gr.skip())]
        kept = stack.case(picture, choice, made)
        return [*compare.shown(kept, seen), *series_tab.kept(self._bar(stack, picture))]

    def _bar(self, stack: OpenStack, picture: Picture) -> Any:
        """Return the bar of a stack, where its slices are to be fetched anew; else as it is."""
        place, is_new = stack.place(picture.window, partial(self.workbench.handed_out.slices, stack.visitor))
        assert picture.slice is not None
        if not is_new:
            return gr.skip()
        return stack_html.stack(stack.stack, picture.slice.index, picture.window, place)


def _emptying(by: str) -> dict[str, Any]:
    """Return how the page is emptied by what gives an image.

    One that the library put off until the one before is done would note that later moment.
    """
    return {**AT_ONCE, **IN_A_ROW, "js": NOTED.format(by=by)}


def _uploaded(files: list[dict[str, Any]] | None) -> Taken | None:
    if not files:
        return None
    found = series.given([file["path"] for file in files])
    return _taken(found, found.series[0])


def _of_series(found: Given | None, label: str) -> Taken:
    return _taken(*series_tab.of_label(found, label))


def _taken(found: Given, chosen: Series) -> Taken:
    read = read_stack(chosen) if chosen.is_stack else take_in(chosen.sources[0].path)
    return Taken(read, found, chosen)


def _turned_to(path: str | None) -> Any:
    return gr.skip() if path is None else gr.update(selected=compare.NAME)
