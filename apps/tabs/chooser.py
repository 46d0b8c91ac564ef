"""The frame of a tab over results: which result, or the command that makes one, or why it cannot be shown.

Nothing is read before the tab is selected, and nothing again while the same result stays chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ttr.apps.html import explanations
from ttr.apps.tabs.events import AT_ONCE, IN_BROWSER, guarded
from ttr.studies.results import Results
from ttr.studies.schemas import COMMANDS

#: Opening a result reads files and draws all of a tab; it takes a moment, and says so.
OPENING: dict[str, Any] = {**AT_ONCE, "show_progress": "minimal"}
#: A figure that is wider than the page is scrolled by keyboard, too, and says where its numbers are. The
#: widgets of a tab are made when they are first shown, which takes a moment.
NAMED = """() => {
  const name = () => {
    let heading = "";
    for (const each of document.querySelectorAll(".ttr-heading h3, .ttr-plot"))
      if (each.tagName === "H3") heading = each.textContent;
      else {
        each.tabIndex = 0;
        each.setAttribute("role", "group");
        each.setAttribute("aria-label", `Figure: ${heading}. Its numbers are in the table below.`);
      }
  };
  [0, 400, 1500].forEach((wait) => setTimeout(name, wait));
  return [];
}"""
#: The widgets that show a result, and their values for the result of a name.
Contents = tuple[list[Any], Callable[[str], list[Any]]]


def over_results(
    results: Results,
    schema: str,
    tab: gr.Tab,
    chosen: gr.State,
    command: str,
    lay_out: Callable[[gr.Dropdown, gr.HTML], Contents],
) -> None:
    """Lay out what a tab shows of one kind of result.

    Args:
        results: the results folder.
        schema: which kind, of :data:`ttr.studies.schemas.COMMANDS`.
        tab: when it is selected, the results are looked for.
        chosen: the name last chosen, which tabs of one kind share.
        command: what makes such a result, for the empty state.
        lay_out: lays out the rest, given the widget whose value is the result's name and that for refusals.
    """
    made_by = COMMANDS[schema]
    empty = gr.HTML(elem_classes="ttr-said")
    names = gr.Dropdown([], label=f"Result of {made_by}", visible=False)
    said = gr.HTML(elem_classes="ttr-said")
    with gr.Column(visible=False, elem_classes="ttr-section") as body:
        contents, show = lay_out(names, said)
    seen = gr.State(None)
    outputs = [empty, names, said, body, seen, chosen, *contents]

    def opened(wanted: str | None, before: str | None) -> list[Any]:
        kept = [gr.skip() for _ in contents]
        known = results.names(schema)
        if not known:
            hidden = gr.update(visible=False)
            text = nothing(results, made_by)
            return [explanations.empty(text, command), hidden, "", hidden, None, gr.skip(), *kept]
        name = wanted if wanted in known else known[0]
        listed = gr.update(choices=known, value=name, visible=True)
        now = results.stamp(schema, name)
        if now == before:
            return ["", listed, gr.skip(), gr.skip(), now, name, *kept]
        message, *shown = guarded(lambda: ["", *show(name)], 1 + len(contents), message=0)
        refused = bool(message)
        return ["", listed, message, gr.update(visible=not refused), None if refused else now, name, *shown]

    tab.select(opened, [chosen, seen], outputs, **OPENING).then(None, js=NAMED, **IN_BROWSER)
    names.input(opened, [names, seen], outputs, **OPENING)


def nothing(results: Results, made_by: str) -> str:
    """Return the sentence of an empty state."""
    if results.root is None:
        return (
            f"No results folder is open. Make a result with {made_by}, such as by this command, then start "
            f"the page again with: {explanations.OPEN}"
        )
    return (
        f"The results folder holds no finished result of {made_by} yet. This command makes one, in a folder "
        "named results:"
    )
