"""The tab Batch: several files or a folder, a line each, the least faithful map first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ttr.apps import batch, panels, words
from ttr.apps.batch import Line
from ttr.apps.events import AT_ONCE
from ttr.apps.viewer_compare import Opening
from ttr.apps.viewer_export import download
from ttr.apps.workbench import Workbench
from ttr.errors import TTRError
from ttr.wording import counted

#: Passes take turns with those of other visitors, image by image; one batch at a time.
IN_TURN: dict[str, Any] = {"concurrency_id": "batch", "concurrency_limit": 1, "api_visibility": "private"}
#: Seconds between two looks at a table that is being filled.
REFRESH = 2.0
HEADERS = {
    "number": "No.",
    "file": "File",
    "faithfulness_after": "Faithful after",
    "grade_after": "Grade after",
    "faithfulness_before": "Faithful before",
    "max_patch_norm_before": "Max norm before",
    "max_patch_norm_after": "Max norm after",
    "outliers_before": "Outliers before",
    "outliers_after": "Outliers after",
    "registers_hold": "Registers hold",
    "answer_before": "Answer before",
    "answer_after": "Answer after",
    "note": "Note",
}
DIGITS = {
    "faithfulness_before": 2,
    "faithfulness_after": 2,
    "max_patch_norm_before": 1,
    "max_patch_norm_after": 1,
    "registers_hold": 3,
}


def batch_tab(workbench: Workbench, chosen: gr.State, opening: Opening, tabs: gr.Tabs) -> None:
    """Lay out the tab; choosing a line opens its image in Compare."""
    found = gr.State([], time_to_live=3600)
    paths = gr.State([], time_to_live=3600)
    gr.HTML(f'<p class="ttr-soft">{words.BATCH}</p>')
    with gr.Row(elem_classes="ttr-columns"):
        files = gr.File(
            label="Images (PNG, JPEG, TIFF or DICOM)", file_count="multiple", height=150, min_width=280
        )
        folder = gr.File(label="Or a folder of images", file_count="directory", height=150, min_width=280)
    with gr.Row():
        start = gr.Button("Run the batch", variant="primary", size="sm", elem_id="batch-run")
        stop = gr.Button("Stop", size="sm", elem_id="batch-stop")
    status = gr.HTML(elem_id="batch-status")
    shown = gr.Dataframe(
        headers=list(HEADERS.values()),
        interactive=False,
        visible=False,
        label="Batch",
        show_label=False,
        elem_id="batch-table",
        max_height=520,
        buttons=[],
    )
    download("Export CSV", "ttr-batch.csv", _csv, [found], status)
    gr.HTML(words.why(words.BATCH_WHY))
    outputs = [found, paths, status, shown]

    def run(several: list[str] | None, whole: list[str] | None, choice: Any) -> Iterator[list[Any]]:
        chosen_files = sorted(Path(path) for path in [*(several or []), *(whole or [])])
        places = [str(path) for path in chosen_files]
        lines: list[Line] = []
        last = time.monotonic()
        try:
            choice = choice or workbench.choose(workbench.names[0])
            for line in batch.lines(workbench, chosen_files, choice):
                lines.append(line)
                if time.monotonic() - last > REFRESH:
                    last = time.monotonic()
                    yield [list(lines), places, _said(lines, len(places)), _table(lines)]
        except TTRError as error:
            yield [gr.skip(), gr.skip(), panels.message(str(error)), gr.skip()]
            return
        yield [lines, places, _said(lines, len(places)), _table(lines)]

    running = start.click(run, [files, folder, chosen], outputs, **IN_TURN)
    stop.click(None, None, None, cancels=[running], **AT_ONCE)

    def one(places: list[str], event: gr.SelectData) -> Any:
        number = int(event.row_value[0])
        return places[number - 1]

    opening.on(shown.select, one, [paths], tabs)


def _said(lines: list[Line], of: int) -> str:
    refused = sum(bool(line.note) for line in lines)
    doubtful = sum(line.grade_after not in ("", "faithful") for line in lines)
    said = f"{len(lines)} of {counted(of, 'file')}: {doubtful} with a map that is not wholly faithful after"
    said += f", {refused} refused." if refused else "."
    return f'<p class="ttr-done" role="status">{said} Choose a line to open its image in Compare.</p>'


def _table(lines: list[Line]) -> Any:
    rows = batch.table(lines).round(DIGITS)
    shown = [name for name in HEADERS if not name.startswith("answer") or rows[name].any()]
    if not rows["note"].any():
        shown.remove("note")
    cells = rows[shown].astype(object).where(rows[shown].notna(), "")
    return gr.update(
        value={"headers": [HEADERS[name] for name in shown], "data": cells.to_numpy().tolist()}, visible=True
    )


def _csv(lines: list[Line]) -> bytes | None:
    return batch.csv_of(batch.table(lines)) if lines else None
