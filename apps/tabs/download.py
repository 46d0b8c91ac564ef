"""The buttons that hand a case over: one click makes the file and downloads it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ttr.apps.tabs.events import IN_BROWSER, guarded


def download(
    label: str, name: str, make: Callable[..., bytes | None], inputs: list[Any], status: gr.HTML
) -> None:
    """Lay out a button that downloads what ``make`` returns for the values of ``inputs`` as a file ``name``.

    The file lies in the page's private folder until it is swept. None: there is nothing to download yet.
    """
    identity = f"download-{name.replace('.', '-')}"
    button = gr.Button(label, size="sm", min_width=110, elem_id=f"make-{name.replace('.', '-')}")
    file = gr.DownloadButton("The export", visible="hidden", elem_id=identity)

    def made(*values: Any) -> list[Any]:
        def work() -> list[Any]:
            content = make(*values)
            if content is None:
                return [gr.skip(), gr.skip()]
            path = Path(tempfile.mkdtemp(prefix="export-")) / name
            path.write_bytes(content)
            return [str(path), ""]

        return guarded(work, 2)

    click = f"() => {{ setTimeout(() => document.querySelector('#{identity}')?.click(), 60); return []; }}"
    event = button.click(made, inputs, [file, status], api_visibility="private")
    event.success(None, None, None, js=click, **IN_BROWSER)
