"""A batch as HTML: how far it is, and its table. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttr.apps.image import image_list as batch
from ttr.apps.image.image_list import Line
from ttr.drawing.html import fill
from ttr.wording import counted, shortened

#: (column, heading, how a number is written, whether more or less of it is worse; None: words).
COLUMNS: tuple[tuple[str, str, str, str | None], ...] = (
    ("file", "file", "", None),
    ("faithfulness_after", "faithful after", "{:.2f}", "less"),
    ("grade_after", "grade after", "", None),
    ("faithfulness_before", "faithful before", "{:.2f}", "less"),
    ("max_patch_norm_before", "largest norm before", "{:.1f}", "more"),
    ("max_patch_norm_after", "largest norm after", "{:.1f}", "more"),
    ("outliers_before", "outliers before", "{:.0f}", "more"),
    ("outliers_after", "outliers after", "{:.0f}", "more"),
    ("registers_hold", "registers hold", "{:.3f}", "more"),
    ("answer_before", "answer before", "", None),
    ("answer_after", "answer after", "", None),
    ("note", "note", "", None),
)
#: Left out where no line has one.
OPTIONAL = ("answer_before", "answer_after", "note")
#: Letters of a file's name; the whole one stands in its tooltip and in the CSV.
LONGEST = 32


def status(lines: Sequence[Line], of: int) -> str:
    """Return in a sentence how far a batch of ``of`` files is."""
    refused = sum(bool(line.note) for line in lines)
    doubtful = sum(line.grade_after not in ("", "faithful") for line in lines)
    said = f"{len(lines)} of {counted(of, 'file')}: {doubtful} with a map that is not wholly faithful after"
    said += f", {refused} refused." if refused else "."
    return f'<p class="ttr-done" role="status">{said} A name opens its image in Compare.</p>'


def table(lines: Sequence[Line], place: str = "") -> str:
    """Return the lines as a table whose heads sort, the least faithful map first.

    ``place``: where the thumbnails are fetched, by number; "": there are none.
    """
    rows = batch.table(lines)
    shown = [column for column in COLUMNS if column[0] not in OPTIONAL or rows[column[0]].any()]
    heads = [
        {"label": label, "worse": worse, "sort": "ascending" if name == "faithfulness_after" else None}
        for name, label, _, worse in shown
    ]
    body = [
        {
            "number": row["number"],
            "refused": bool(row["note"]),
            "thumbnail": f"{place}{row['number']}" if place and not row["note"] else "",
            "cells": [_cell(name, row[name], pattern) for name, _, pattern, _ in shown],
        }
        for row in rows.to_dict("records")
    ]
    return fill("app_batch.html", heads=heads, lines=body)


def _cell(name: str, value: Any, pattern: str) -> dict[str, Any]:
    if not pattern:
        short = shortened(value, LONGEST) if name == "file" else value
        return {
            "text": short,
            "whole": value if short != value else "",
            "value": value,
            "opens": name == "file",
        }
    known = value is not None and value == value
    return {"text": pattern.format(value) if known else "", "value": value if known else "", "opens": False}
