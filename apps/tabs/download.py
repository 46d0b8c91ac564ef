"""The buttons that hand a case over: one click makes the file and downloads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ttr.apps.tabs.events import AS_SENT, IN_BROWSER, guarded


def download(
    label: str, name: str, make: Callable[..., bytes], inputs: list[Any], status: gr.HTML
) -> gr.Button:
    """Lay out a button that downloads what ``make`` returns for the values of ``inputs`` as a file ``name``.

    It cannot be pressed until there is something to download. The file is its visitor's alone, and lies in
    the page's private folder until it is swept. What ``make`` refuses is said, and nothing is downloaded.
    """
    identity = f"download-{name.replace('.', '-')}"
    button = gr.Button(
        label, size="sm", min_width=110, elem_id=f"make-{name.replace('.', '-')}", interactive=False
    )
    file = gr.DownloadButton("The export", visible="hidden", elem_id=identity)

    def made(request: gr.Request, *values: Any) -> list[Any]:
        def work() -> list[Any]:
            return [str(request.state.visitor.export(name, make(*values))), ""]

        found = guarded(work, 2)
        return found if isinstance(found[0], str) else [None, found[1]]

    press = f"setTimeout(() => document.querySelector('#{identity}')?.click(), 60)"
    click = f"(file) => {{ if (file) {press}; return []; }}"
    event = button.click(made, inputs, [file, status], api_visibility="private", **AS_SENT)
    event.success(None, file, None, js=click, **IN_BROWSER)
    return button
