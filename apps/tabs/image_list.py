"""The tab Batch: several files or a folder, a line each, the least faithful map first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr

from ttr.apps.html import explanations, panels
from ttr.apps.html import image_list as list_html
from ttr.apps.image import image_list as batch
from ttr.apps.image.handed_out import Thumbnails
from ttr.apps.image.image_list import Line
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs.download import download
from ttr.apps.tabs.events import AT_ONCE
from ttr.apps.tabs.given import given
from ttr.apps.tabs.opening import Listed
from ttr.errors import OptionError, TTRError

#: Passes take turns with those of other visitors, image by image; one batch at a time.
IN_TURN: dict[str, Any] = {"concurrency_id": "batch", "concurrency_limit": 1, "api_visibility": "private"}
#: Seconds between two looks at a table that is being filled.
REFRESH = 2.0
SCRIPT = resources.files("ttr").joinpath("templates", "app_batch.js").read_text(encoding="utf-8")


def batch_tab(workbench: Workbench, chosen: gr.State) -> Listed:
    """Lay out the tab; return the table whose lines open their images in Compare."""
    found, paths = gr.State([], time_to_live=FORGOTTEN), gr.State([], time_to_live=FORGOTTEN)
    thumbnails = gr.State(None, time_to_live=FORGOTTEN)
    gr.HTML(f'<p class="ttr-soft">{explanations.BATCH}</p>')
    with gr.Row(elem_classes="ttr-columns"):
        several = gr.File(
            label="Images (PNG, JPEG, TIFF or DICOM)",
            file_count="multiple",
            height=150,
            min_width=280,
            elem_id="batch-files",
        )
        whole = gr.File(
            label="Or a folder of images",
            file_count="directory",
            height=150,
            min_width=280,
            elem_id="batch-folder",
        )
    with gr.Row():
        start = gr.Button("Run the batch", variant="primary", size="sm", elem_id="batch-run")
        stop = gr.Button("Stop", size="sm", elem_id="batch-stop")
    status = gr.HTML(elem_id="batch-status")
    table = gr.HTML(elem_id="batch-table", js_on_load=SCRIPT, apply_default_css=False)
    export = download("Export CSV", "ttr-batch.csv", _csv, [found], status)
    gr.HTML(explanations.why(explanations.BATCH_WHY))
    shown = [found, paths, thumbnails, status, table, export]

    def run(request: gr.Request, *given: Any) -> Iterator[list[Any]]:
        yield from _run(workbench, request.state.visitor.name, *given)

    running = start.click(run, [several, whole, chosen], shown, **IN_TURN)
    stop.click(None, None, None, cancels=[running], **AT_ONCE)
    others = [event for files in (several, whole) for event in (files.upload, files.clear, files.delete)]
    others.append(given("batch-files", "batch-folder"))
    gr.on(others, None, None, None, cancels=[running], **AT_ONCE)
    gr.on(others, _empty, None, shown, **AT_ONCE)
    return Listed(table.select, _path, [paths])


def _run(
    workbench: Workbench,
    visitor: str,
    files: list[str] | None,
    folder: list[str] | None,
    choice: Any,
) -> Iterator[list[Any]]:
    places = sorted([*(files or []), *(folder or [])])
    lines: list[Line] = []
    last = time.monotonic()
    small = Thumbnails()
    place = workbench.handed_out.hand_out(visitor, small)

    def so_far() -> list[Any]:
        said = list_html.status(lines, len(places))
        table = list_html.table(lines, place)
        return [list(lines), places, small, said, table, gr.update(interactive=bool(lines))]

    yield _empty()
    try:
        choice = choice or workbench.choose(workbench.names[0])
        for line in batch.lines(workbench, list(map(Path, places)), choice, small.by_number):
            lines.append(line)
            if time.monotonic() - last > REFRESH:
                last = time.monotonic()
                yield so_far()
    except TTRError as error:
        yield _empty(panels.message(str(error)))
        return
    yield so_far()


def _empty(said: str = "") -> list[Any]:
    """Return the values of the list before anything was run: of a former batch nothing stays."""
    return [[], [], None, said, "", gr.update(interactive=False)]


def _path(places: list[str], event: gr.EventData) -> str | None:
    number = getattr(event, "number", 0)
    return places[number - 1] if isinstance(number, int) and 1 <= number <= len(places) else None


def _csv(lines: list[Line]) -> bytes:
    if not lines:
        raise OptionError("there is no table here now; choose files and run the batch")
    return batch.csv_of(batch.table(lines))
